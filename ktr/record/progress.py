"""How far training and validation are, as one line."""

from collections.abc import Mapping
from math import isfinite
from time import perf_counter
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from ktr.console.progress_line import ProgressLine
from ktr.record.step_output import step_output


class TrainingProgress(ProgressBar):
    """Progress of training and of Lightning's validation. ``shown`` maps a word on the line to a metric's name.

    As a Lightning progress bar it takes the place of the default one.
    """

    def __init__(self, shown: Mapping[str, str] | None = None, seconds_between_lines: float = 20.0) -> None:
        super().__init__()
        self.shown = dict(shown or {"reward": "reward/total", "accuracy": "reward/accuracy"})
        self.seconds_between_lines = seconds_between_lines
        self._enabled = True
        self._train: ProgressLine | None = None
        self._validation: ProgressLine | None = None
        self._batch_started = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
        self._train = self._opened("train", total, trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch_started = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._train is None:
            return
        output = step_output(outputs)
        questions, tokens = (len(batch), 0) if output is None else (output.num_questions, output.num_tokens)
        values = trainer.callback_metrics
        detail = " · ".join(f"{word} {values[name]:.3f}" for word, name in self.shown.items() if name in values)
        seconds = perf_counter() - self._batch_started
        self._train.advance(trainer.global_step - self._train.done, questions, tokens, seconds, detail)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._train is not None:
            self._train.pause()
        self._validation = self._opened("validate", sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._validation is not None:
            self._validation.advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation = _closed(self._validation)
        if self._train is not None:
            self._train.resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train = _closed(self._train)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._validation, self._train = _closed(self._validation), _closed(self._train)

    def _opened(self, label: str, total: float, done: int = 0) -> ProgressLine | None:
        if not self._enabled:
            return None
        count = int(total) if isfinite(total) else None
        return ProgressLine(label, count, done, seconds_between_lines=self.seconds_between_lines).__enter__()


def _closed(line: ProgressLine | None) -> None:
    if line is not None:
        line.__exit__()
