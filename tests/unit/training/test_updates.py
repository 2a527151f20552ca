"""Several updates of one batch of rollouts: each has its row, none is one too many, and nothing is missed between."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from ktr.record.metrics_csv import MetricsCSV
from ktr.record.rhythm import Rhythm
from ktr.record.rollout_log import RolloutLog
from ktr.record.step_table import drop_rows_after, read_columns
from ktr.record.token_records import read_records
from ktr.rewards.composite import CompositeReward
from ktr.training.checkpoint import ModelFolderCheckpoint, checkpoints
from ktr.training.rl_module import VideoRLModule
from ktr.types import RolloutGroup
from tests.unit.training.overlapped_run import Questions, Saved, fit

UPDATES = 3


class Nothing:
    """Pays nothing for anything."""

    name = "nothing"

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        return torch.zeros(len(group.completions))


@pytest.fixture
def train(overlapped, tmp_path: Path):
    """Trains with three updates a batch, observed, in a folder below ``tmp_path``, from its last checkpoint or anew."""

    def run(name: str, steps: int, every: int = 4, resume: bool = False, **parts: Any) -> VideoRLModule:
        folder = tmp_path / name
        module, _ = overlapped(updates_per_rollout=UPDATES, **parts)
        observers: list[Callback] = [Saved(folder / "checkpoints", every, keep=9), RolloutLog(folder / "log", every)]
        trainer = Trainer(
            accelerator="cpu", max_steps=steps, max_epochs=-1, logger=MetricsCSV(folder), callbacks=observers,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        )  # fmt: skip
        state = None
        if resume:
            last = checkpoints(folder / "checkpoints")[-1]
            module.policy.load_trained(last)
            state = last / "trainer.ckpt"
        trainer.fit(module, Questions(module.policy, 9, 3), ckpt_path=state, weights_only=True)
        return module

    return run


def test_a_multiple_that_lies_within_a_batch_is_due_at_its_end():
    rhythm, due = Rhythm(4), []
    for step in range(0, 12, UPDATES):
        rhythm.start_batch(step)
        due += [step + UPDATES] if rhythm.is_due(step + UPDATES) else []
    assert due == [6, 9, 12]
    with pytest.raises(ValueError, match="every_n_steps=0: give 1 or more"):
        Rhythm(0)
    with pytest.raises(ValueError, match="keep=0: .* give 1 or more"):
        ModelFolderCheckpoint("", 1, keep=0)


@pytest.mark.parametrize("overlap", [0, 1])
def test_every_update_has_its_row_and_the_run_ends_where_it_is_to(train, tmp_path: Path, overlap: int):
    module = train("run", 10, overlap=overlap)
    columns = read_columns(tmp_path / "run" / "metrics.csv")
    for name in ("loss/total", "grad/norm", "lr"):
        assert columns[name][0] == [*range(1, 11)], name
    assert columns["reward/total"][0] == [3, 6, 9, 10]
    assert module.trainer.global_step == 10
    assert [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")] == ["step-000006", "step-000009"]
    assert {record["step"] for record in read_records(tmp_path / "run" / "log")} == {6, 9}


@pytest.mark.parametrize("overlap", [0, 1])
def test_resumed_from_any_batch_it_is_the_run_that_was_not_cut(train, tmp_path: Path, overlap: int):
    whole = train("whole", 8, overlap=overlap)
    train("cut", 8, every=3, overlap=overlap)
    (tmp_path / "cut" / "checkpoints" / "step-000006").rename(tmp_path / "cut" / "lost")
    drop_rows_after(tmp_path / "cut" / "metrics.csv", 3)
    again = train("cut", 8, resume=True, overlap=overlap)
    assert all(torch.equal(a, b) for a, b in zip(whole.policy.parameters(), again.policy.parameters(), strict=True))
    assert (tmp_path / "cut" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_batches_of_equal_rewards_are_updates_of_nothing(train, tmp_path: Path, overlap: int, beta: float):
    module = train("run", 7, overlap=overlap, beta=beta, reward=CompositeReward({"nothing": Nothing()}))
    assert module.trainer.global_step == 7
    steps, norms = read_columns(tmp_path / "run" / "metrics.csv")["grad/norm"]
    assert steps == [*range(1, 8)]
    if beta == 0:
        assert norms == [0.0] * 7


def test_a_later_batch_of_equal_rewards_is_not_scored_ahead(overlapped):
    """Rollouts ahead of which nothing is learned have no log-probs under the weights that sampled."""
    module, _ = overlapped(overlap=1, updates_per_rollout=2, reward=CompositeReward({"nothing": Nothing()}))
    record = fit(module, 6)
    assert [len(output["output"].to_learn) for output in record.outputs] == [0, 0, 0]
