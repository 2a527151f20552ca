"""Checkpoints: the policy as an ordinary model folder, and beside it what the trainer needs to go on."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

TRAINER_STATE = "trainer.ckpt"


class ModelFolderCheckpoint(Callback):
    """Every ``every_n_steps`` updates writes ``folder/step-000040``; the last ``keep`` of them stay.

    A checkpoint holds the model's own files (config, safetensors, tokenizer, processor), so that transformers and vLLM
    load it as it is, and ``trainer.ckpt`` (optimizer, schedule, position in the data), which is read with
    ``weights_only=True``. It is written aside and renamed: a name that exists is complete.
    """

    def __init__(self, folder: str | Path, every_n_steps: int, keep: int = 2):
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.keep = keep

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps:
            return
        final = self.folder / f"step-{trainer.global_step:06d}"
        partial = final.with_name(final.name + ".partial")
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            pl_module.policy.save(partial)
        trainer.strategy.barrier()
        trainer.save_checkpoint(partial / TRAINER_STATE)
        if trainer.is_global_zero:
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            for old in checkpoints(self.folder)[: -self.keep]:
                shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".partial")
