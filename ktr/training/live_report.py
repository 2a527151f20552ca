"""report.html while a run goes on: a browser tab that is loaded again shows the curves so far."""

from pathlib import Path
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ktr.analysis.report import write_report


class LiveReport(Callback):
    """Writes report.html anew between steps, in at most ``share`` of the run's time.

    ``first_after`` seconds pass before the first; then the next comes when what the last one took, and all before it,
    are less than that share.
    """

    def __init__(self, run_dir: str | Path, share: float = 0.01, first_after: float = 300.0):
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: give a share of the time, such as 0.01")
        self.run_dir, self.share, self.first_after = Path(run_dir), share, first_after
        self._started = self._spent = self._last = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = perf_counter()

    @rank_zero_only
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Where a batch starts, the rows of the one before it are in the run's files.
        now = perf_counter()
        passed = now - self._started
        if passed < self.first_after or self._spent + self._last > self.share * passed:
            return
        if (self.run_dir / "metrics.csv").exists():
            write_report(self.run_dir)
            self._last = perf_counter() - now
            self._spent += self._last
