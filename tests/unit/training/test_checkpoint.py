"""A checkpoint is written where it is to be, and nowhere else."""

import errno
import shutil
import tempfile
from concurrent.futures import Future
from pathlib import Path
from traceback import StackSummary

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch.distributed.checkpoint.api import CheckpointException

from ktr.training.checkpoint import REMOVED, StateFile, checkpoints, remove_checkpoint
from ktr.training.sharded_strategy import ShardedStrategy
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


def test_a_full_disk_is_told_as_one():
    with pytest.raises(OSError) as told:
        StateFile().save_checkpoint({"state": torch.zeros(10_000)}, "/dev/full")
    assert told.value.errno == errno.ENOSPC


def test_what_kept_a_rank_from_writing_its_part_is_told_as_such():
    full, strategy = OSError(errno.ENOSPC, "no space"), ShardedStrategy()
    strategy._writing = Future()
    strategy._writing.set_exception(CheckpointException("", {1: (full, StackSummary())}))
    with pytest.raises(OSError) as told:
        strategy.has_written()
    assert told.value is full


def test_a_way_to_write_states_that_the_trainer_was_given_stays(overlapped, tmp_path: Path):
    class Own(TorchCheckpointIO):
        """Another one."""

    module, _ = overlapped(overlap=0)
    fit(module, 1, callbacks=[Saved(tmp_path, 1)], plugins=[own := Own()])
    assert module.trainer.strategy.checkpoint_io is own


def test_what_is_half_removed_is_no_checkpoint_and_goes_when_a_run_starts(
    overlapped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("step-000003", "step-000004.partial"):
        (tmp_path / name).mkdir()

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        remove_checkpoint(tmp_path / "step-000003")
    assert checkpoints(tmp_path) == [] and (tmp_path / f"step-000003{REMOVED}").is_dir()
    module, _ = overlapped(overlap=0)
    fit(module, 1, callbacks=[Saved(tmp_path, 1)])
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
