"""Rollouts as a table in W&B, each completion with its tokens coloured as in the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ktr.analysis.html import render
from ktr.analysis.run_folder import signal_order
from ktr.analysis.shown_tokens import shown_tokens
from ktr.record.curves import WandbCurves
from ktr.record.rhythm import Rhythm
from ktr.record.rollout_log import RolloutLog
from ktr.record.token_records import Record

if TYPE_CHECKING:
    from wandb import Table

KEY = "rollouts"


class RolloutTable(Callback):
    """Logs under ``rollouts`` what ``RolloutLog`` logged last, every ``every_n_steps`` updates; 0 is never.

    Stands behind ``RolloutLog`` in the order of callbacks. Without W&B, without that log, and where it logged nothing
    since the last table, there is none.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self._rhythm = Rhythm(every_n_steps) if every_n_steps else None
        self._last_shown = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._rhythm is not None:
            self._rhythm.start_batch(trainer.global_step)

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._rhythm is None or not self._rhythm.is_due(trainer.global_step):
            return
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbCurves)]
        logs = [log for log in cast(Any, trainer).callbacks if isinstance(log, RolloutLog)]
        records = [record for log in logs for record in log.logged if record["step"] > self._last_shown]
        if not loggers or not records:
            return
        self._last_shown = trainer.global_step
        for logger in loggers:  # a table belongs to one run
            logger.log_metrics({KEY: rollout_table(records)}, trainer.global_step)


def rollout_table(records: Sequence[Record]) -> "Table":
    """A row for each completion; any text in it is escaped."""
    import wandb

    signals = signal_order({name for record in records for name in record["scores"]})
    columns: list[Any] = ["step", "question", "answer", "reward", "advantage", "text"]
    told = ("step", "problem", "answer", "reward", "advantage")
    rows = [[*(record[name] for name in told), _tinted(record, signals)] for record in records]
    return wandb.Table(columns=columns, data=rows)


def _tinted(record: Record, signals: Sequence[str]) -> Any:
    import wandb

    page = render("completion.html", tokens=shown_tokens(record, signals))
    return wandb.Html(page, inject=False, data_is_not_path=True)  # what it would inject is a style sheet of W&B's site
