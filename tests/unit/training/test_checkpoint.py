"""A checkpoint is written where it is to be, and nowhere else."""

import tempfile
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from ktr.training.checkpoint import checkpoints
from tests.unit.training.overlapped_run import Saved, fit


def test_nothing_of_a_checkpoint_goes_through_the_temporary_folder(
    overlapped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module, _ = overlapped(overlap=0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    fit(module, 2, callbacks=[Saved(tmp_path / "checkpoints", 1)])
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000001", "step-000002"]
    state = torch.load(tmp_path / "checkpoints" / "step-000002" / "trainer.ckpt", weights_only=True)
    assert state["global_step"] == 2 and not (tmp_path / "no such folder").exists()


def test_a_way_to_write_states_that_the_trainer_was_given_stays(overlapped, tmp_path: Path):
    class Own(TorchCheckpointIO):
        """Another one."""

    module, _ = overlapped(overlap=0)
    fit(module, 1, callbacks=[Saved(tmp_path, 1)], plugins=[own := Own()])
    assert module.trainer.strategy.checkpoint_io is own
