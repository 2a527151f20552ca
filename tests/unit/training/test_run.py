"""What a run keeps from its start, and what it takes from an earlier one in its folder."""

import json
from pathlib import Path

import pytest
from lightning.pytorch import LightningDataModule, Trainer

from ktr.errors import MissingData
from ktr.evaluation.accuracy import AccuracyMeter
from ktr.rollout.engine import SamplingParams
from ktr.training import run


def test_only_a_run_that_goes_on_takes_the_accuracy_that_an_earlier_one_left(
    overlapped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "start.json").write_text(json.dumps({"of": "an earlier run"}))  # rank 0 removes it, sooner or later
    monkeypatch.setattr(run, "_validate", lambda *_: {"of": "this run"})
    given = Trainer(accelerator="cpu", logger=False), overlapped(overlap=0)[0], LightningDataModule()
    assert run._accuracy_at_start(tmp_path, *given, resumed=True) == {"of": "an earlier run"}
    assert run._accuracy_at_start(tmp_path, *given, resumed=False) == {"of": "this run"}


def test_held_out_questions_of_which_none_can_be_read_end_the_run_in_a_sentence(make_module):
    module = make_module()
    module.meters = {"greedy": AccuracyMeter(SamplingParams(1, 4, temperature=0.0))}
    module.validation_step([], 0)
    with pytest.raises(MissingData, match=r"data\.validation: none of its questions can be read; skips\.jsonl"):
        module.on_validation_epoch_end()
