"""A row that another table holds is copied: only at the same clean commit, and only with the same settings."""

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ktr.config.composing import compose
from ktr.sweep import twin
from ktr.sweep.twin import copy_twin, find_twin

CLEAN = {"commit": "abc", "dirty": False}


def row(tmp_path: Path, table: str, *overrides: str) -> DictConfig:
    return compose("train", [f"+experiment=table/{table}", f"paths.runs={tmp_path}", "hydra.mode=RUN", *overrides])


def finish(config: DictConfig, state: dict = CLEAN) -> Path:
    """The files of a finished run of ``config``."""
    folder = Path(config.paths.run_dir)
    (folder / "policy").mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    (folder / "record.json").write_text(json.dumps({"git": state, "argv": ["one"]}))
    (folder / "metrics.csv").write_text("step,reward/accuracy\n1,0.5\n")
    (folder / "summary.json").write_text(json.dumps({"name": config.name, "algorithm": "video_ktr", "num_updates": 1}))
    return folder


@pytest.fixture
def at_abc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(twin, "git_state", lambda folder: CLEAN)


@pytest.mark.usefixtures("at_abc")
def test_grpo_of_one_table_is_that_of_another_and_is_copied_under_its_name(tmp_path: Path):
    source = finish(row(tmp_path, "signals", "table.row=grpo", "attribution=none"))
    config = row(tmp_path, "rl_methods", "table.row=grpo", "algorithm=grpo")
    folder = Path(config.paths.run_dir)
    folder.mkdir(parents=True)
    assert copy_twin(config)
    assert (folder / "metrics.csv").read_bytes() == (source / "metrics.csv").read_bytes()
    summary, record = (json.loads((folder / name).read_text()) for name in ("summary.json", "record.json"))
    assert (summary["name"], summary["algorithm"], summary["num_updates"]) == ("grpo-s0", "grpo", 1)
    assert record == {"git": CLEAN, "argv": ["one"], "copied_from": "table/signals/grpo-s0"}
    assert OmegaConf.load(folder / "config.yaml").table.name == "rl_methods"
    assert not copy_twin(row(tmp_path, "ratio", "table.row=grpo", "attribution=none", "trainer.max_steps=7"))


@pytest.mark.usefixtures("at_abc")
@pytest.mark.parametrize("other", ["seed=1", "optimizer.lr=1.0e-5"])
def test_other_settings_are_another_run(tmp_path: Path, other: str):
    finish(row(tmp_path, "signals", "table.row=vet"))
    assert find_twin(row(tmp_path, "ratio", "table.row=0.2")) is not None
    assert find_twin(row(tmp_path, "ratio", "table.row=0.2", other)) is None


@pytest.mark.usefixtures("at_abc")
def test_what_was_measured_otherwise_is_another_run(tmp_path: Path):
    finish(row(tmp_path, "signals", "table.row=vet"))
    often = "callbacks.gradient_alignment.every_n_steps=5"
    assert find_twin(row(tmp_path, "ratio", "table.row=0.2", often)) is None


@pytest.mark.usefixtures("at_abc")
def test_a_part_of_the_user_s_own_has_code_that_no_commit_here_tells(tmp_path: Path):
    own = "reward.rewards.format={_target_: tests.even_tokens.ShareOfEvenTokens}"
    finish(row(tmp_path, "signals", "table.row=vet", own))
    assert find_twin(row(tmp_path, "ratio", "table.row=0.2", own)) is None


@pytest.mark.usefixtures("at_abc")
@pytest.mark.parametrize("state", [{"commit": "abd", "dirty": False}, {"commit": "abc", "dirty": True}, None])
def test_other_code_is_another_run(tmp_path: Path, state):
    finish(row(tmp_path, "signals", "table.row=vet"), state)
    assert find_twin(row(tmp_path, "ratio", "table.row=0.2")) is None


@pytest.mark.parametrize("state", [{"commit": "abc", "dirty": True}, None])
def test_code_that_has_no_commit_has_no_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state):
    finish(row(tmp_path, "signals", "table.row=vet"), state)
    monkeypatch.setattr(twin, "git_state", lambda folder: state)
    assert find_twin(row(tmp_path, "ratio", "table.row=0.2")) is None
