"""Metrics of a run for W&B and TensorBoard: the rows of metrics.csv and timings.csv, each step once.

The first step that a process logs says where the run resumed, as in ``StepTable``. What an earlier process logged from
there on is taken back, and what it had no time to write before it was killed comes from the tables.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ktr.config.settings import without_secrets
from ktr.errors import ConfigError
from ktr.record.metrics_csv import TABLES
from ktr.record.panels import sections
from ktr.record.run_record import run_id
from ktr.record.step_table import read_rows
from ktr.record.wandb_file import cut_history

Row = dict[str, float]


class WandbCurves(WandbLogger):
    """The run as one run of W&B, under the id of its record, however often it is resumed, online or offline.

    W&B's own step is the update. Offline each process leaves a part of its own; ``wandb sync`` joins them.
    """

    def __init__(
        self,
        save_dir: str | Path,
        name: str | None = None,
        project: str = "ktr",
        offline: bool = False,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
    ) -> None:
        shown = {"entity": entity, "group": group, "job_type": job_type, "tags": tags and [*tags], "notes": notes}
        super().__init__(name=name, project=project, save_dir=save_dir)
        self._wandb_init |= shown | ({"mode": "offline"} if offline else {})
        self._run_dir = Path(save_dir)
        self._first_missing: int | None = None  # the first step that W&B lacks; None before anything was logged

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of W&B. Raises ``ConfigError`` with W&B's reason where there can be none."""
        if self._experiment is not None:
            return self._experiment
        # Its makers hear of no error; files of tables wait with the run until they are sent, not in the user's home.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_DATA_DIR", str((self._run_dir / "wandb").absolute()))
        import wandb

        self._wandb_init["id"] = run_id(self._run_dir)
        self._wandb_init.pop("anonymous", None)  # of no effect, as W&B says each time
        try:
            return super().experiment
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"logger.wandb: {reason}; or keep the run here by logger.wandb.offline=true") from error

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The whole config, without what is secret in it."""
        super().log_hyperparams(without_secrets(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, and what else W&B shows in a row, such as its tables."""
        if step is None:
            raise ValueError("a row of W&B is a step: log with step=")
        run = self.experiment
        rows: dict[int, dict[str, Any]] = {step: dict(metrics)}
        if self._first_missing is None:
            self._first_missing = self._first_step_not_kept(step) if run.offline else run.starting_step
            earlier = {at: row for at, row in _rows(self._run_dir).items() if at <= step}
            rows = earlier | {step: earlier.get(step, {}) | dict(metrics)}
        for at, row in rows.items():
            if at >= self._first_missing:  # the others are there, with the values of the same seed
                run.log({**row, "trainer/global_step": at}, step=at)

    def finish(self, failed: bool) -> None:
        """Tell W&B how the run ended, and send the rest."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(failed))
            self._experiment = None

    def _first_step_not_kept(self, step: int) -> int:
        """Behind what the parts of an offline run hold, once they are cut off at ``step``."""
        parts = sorted((self._run_dir / "wandb").glob(f"*run-*-{self.version}/run-{self.version}.wandb"))
        kept = [last for part in parts if (last := cut_history(part, step)) is not None]
        return max(kept, default=-1) + 1


class TensorBoardCurves(Logger):
    """The run as one set of curves in ``save_dir``/tensorboard, however often it is resumed.

    Custom Scalars shows them by the pages of ``sections``.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self._run_dir = Path(save_dir)
        self._writer: Any = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None:
            raise ValueError("a point of a curve has a step: log with step=")
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second: only a run that writes starts with it

            has_pages = step > 0 and any(Path(self.log_dir).glob("events.out.tfevents.*"))  # purging at 0 drops them
            self._writer = SummaryWriter(self.log_dir, purge_step=step)
            if not has_pages:
                self._writer.add_custom_scalars(_pages())
            metrics = _rows(self._run_dir).get(step, {}) | dict(metrics)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: config.yaml holds the whole config."""

    def finalize(self, status: str) -> None:
        if self._writer is not None:
            self._writer.flush()

    @property
    def name(self) -> str:
        return "tensorboard"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._run_dir)

    @property
    def log_dir(self) -> str:
        return str(self._run_dir / self.name)


@contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """However the block ends, W&B is told; else a run that failed would show as one that still runs."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in loggers:
            if isinstance(logger, WandbCurves):
                logger.finish(failed)


def _pages() -> dict[str, dict[str, list[Any]]]:
    """The table of panels as TensorBoard takes it."""
    return {
        section: {panel.title: ["Multiline", [panel.pattern]] for panel in panels}
        for section, panels in sections().items()
    }


def _rows(run_dir: Path) -> dict[int, Row]:
    """The rows of both tables by step, in order."""
    rows: dict[int, Row] = {}
    for table in TABLES:
        for step, cells in read_rows(run_dir / table).items():
            rows.setdefault(step, {}).update({name: float(text) for name, text in cells.items()})
    return dict(sorted(rows.items()))
