"""What a run keeps from its start, and what it takes from an earlier one in its folder."""

import json
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from lightning.pytorch import LightningDataModule, Trainer

from ktr.config.composing import compose
from ktr.errors import ConfigError
from ktr.training import run


def test_only_a_run_that_goes_on_takes_the_accuracy_that_an_earlier_one_left(
    overlapped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "start.json").write_text(json.dumps({"of": "an earlier run"}))  # rank 0 removes it, sooner or later
    monkeypatch.setattr(run, "_validate", lambda *_: {"of": "this run"})
    given = Trainer(accelerator="cpu", logger=False), overlapped(overlap=0)[0], LightningDataModule()
    assert run._accuracy_at_start(tmp_path, *given, resumed=True) == {"of": "an earlier run"}
    assert run._accuracy_at_start(tmp_path, *given, resumed=False) == {"of": "this run"}


def refusing_probe() -> None:
    raise ConfigError("no such probe")


def test_a_probe_that_is_refused_is_told_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "_validate", lambda *_: pytest.fail("the training has begun"))
    few = ["data.validation.num_questions=1", "data.train.num_questions=1", "data.questions_per_step=1"]
    config = compose("train", [*few, f"paths.cache={tmp_path}", f"paths.runs={tmp_path}"])
    config.probe = {"_target_": f"{__name__}.{refusing_probe.__name__}"}
    with pytest.raises(InstantiationException, match="no such probe"):
        run.run_training(config)
