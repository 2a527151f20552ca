"""Metrics of a run as two tables in the run folder: metrics.csv and timings.csv.

metrics.csv holds what the seed decides, so that it can be compared byte by byte between runs; timings.csv holds what
the clock says: every metric whose name ends in ``_per_second`` or ``_seconds``. ``StepTable`` has the rules of both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ktr.record.step_table import StepTable

TABLES = ("metrics.csv", "timings.csv")
WALL_CLOCK_SUFFIXES = ("_per_second", "_seconds")


class MetricsCSV(Logger):
    """Lightning logger that keeps metrics.csv and timings.csv in ``save_dir`` itself, without a version folder."""

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self._save_dir = Path(save_dir)
        self._metrics, self._timings = (StepTable(self._save_dir / table) for table in TABLES)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None:
            raise ValueError("metrics.csv has one row for each step: log with step=")
        timings = {name: value for name, value in metrics.items() if name.endswith(WALL_CLOCK_SUFFIXES)}
        others = {name: value for name, value in metrics.items() if name not in timings and name != "step"}
        if others:
            self._metrics.update(step, others)
        if timings:
            self._timings.update(step, timings)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: config.yaml holds the whole config."""

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._save_dir)

    @property
    def log_dir(self) -> str:
        return str(self._save_dir)
