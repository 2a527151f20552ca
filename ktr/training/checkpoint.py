"""Checkpoints: the policy as an ordinary model folder, and beside it what the trainer needs to go on."""

import shutil
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from ktr.config.resumption import PARTIAL, REMOVED, checkpoints
from ktr.record.rhythm import Rhythm
from ktr.training.policy_module import PolicyModule
from ktr.training.sharded_state import add_moments
from ktr.training.sharded_strategy import ShardedStrategy

TRAINER_STATE = "trainer.ckpt"


class StateFile(TorchCheckpointIO):
    """Writes a state straight to its place: Lightning's own copies it in memory, then into the temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with Path(path).open("wb") as file:  # given a path, torch would not say which fault of the disk it was
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a state with what ranks wrote in parts beside it, so that one that holds all of it can go on."""
        checkpoint = torch.load(path, map_location=map_location or "cpu", weights_only=weights_only)
        add_moments(checkpoint, Path(path).parent)
        return checkpoint


class ModelFolderCheckpoint(Callback):
    """Every ``every_n_steps`` updates (``Rhythm``) writes ``folder/step-000040``; the last ``keep`` of them stay.

    A checkpoint holds the model's own files (config, safetensors, tokenizer, processor), so that transformers and vLLM
    load it as it is, and ``trainer.ckpt`` (optimizer, schedule, position in the data), which is read with
    ``weights_only=True``. It is written aside and gets its name when the next step starts: by then the step's rows are
    in the logs, so that a run that goes on from a checkpoint lacks none of them. Where the policy is spread over ranks
    each writes its part of weights and moments to ``shards`` in its place, while the next steps are taken; the
    checkpoint gets its name when all have.
    """

    def __init__(self, folder: str | Path, every_n_steps: int, keep: int = 2):
        if keep < 1:
            raise ValueError(f"keep={keep}: a run goes on from its last checkpoint; give 1 or more")
        self.folder = Path(folder)
        self._rhythm = Rhythm(every_n_steps)
        self.keep = keep
        self._written: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:  # what a run that was killed left half-written or half-removed
            for part in (path for suffix in (PARTIAL, REMOVED) for path in self.folder.glob(f"step-*{suffix}")):
                shutil.rmtree(part)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not where a plugin of the user's is
            trainer.strategy.checkpoint_io = StateFile()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._rhythm.is_due(trainer.global_step):
            return
        self._publish(trainer, wait=True)
        partial = self.folder / f"step-{trainer.global_step:06d}{PARTIAL}"
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            if not isinstance(trainer.strategy, ShardedStrategy):
                cast(PolicyModule, pl_module).policy.save(partial)
        trainer.strategy.barrier()
        trainer.save_checkpoint(partial / TRAINER_STATE)
        self._written = partial

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._publish(trainer)
        self._rhythm.start_batch(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._publish(trainer, wait=True)

    def _publish(self, trainer: Trainer, wait: bool = False) -> None:
        if isinstance(trainer.strategy, ShardedStrategy) and not trainer.strategy.has_written(wait):
            return
        if self._written is None or not trainer.is_global_zero:
            return
        final = self._written.with_suffix("")
        if final.exists():  # of a run that was begun anew in the folder
            remove_checkpoint(final)
        self._written.rename(final)
        self._written = None
        for old in checkpoints(self.folder)[: -self.keep]:
            remove_checkpoint(old)


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove all of a checkpoint; it loses its name first, so that none is found of which only a part is left."""
    shutil.rmtree(checkpoint.rename(checkpoint.with_suffix(REMOVED)))
