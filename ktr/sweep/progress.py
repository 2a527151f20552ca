"""How far a sweep is, read from the folders of its jobs, wherever a launcher runs them."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from omegaconf import DictConfig

from ktr.config.table_rows import is_finished
from ktr.console.progress_line import ProgressLine

_SECONDS_BETWEEN_LOOKS = 5.0


class SweepProgress:
    """A line on stderr while the context is open: updates done of all jobs, time left, jobs finished."""

    def __init__(self, jobs: Sequence[DictConfig], seconds_between_lines: float = 60.0) -> None:
        self.folders = [Path(job.paths.run_dir) for job in jobs]
        self.max_steps = [int(job.trainer.max_steps) for job in jobs]
        self.seconds_between_lines = seconds_between_lines
        self._ended = Event()
        self._watcher = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "SweepProgress":
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()

    def num_updates(self) -> int:
        """Updates of all jobs so far; those of a finished job count as planned."""
        return sum(
            planned if is_finished(folder) else min(_last_step(folder / "timings.csv"), planned)
            for folder, planned in zip(self.folders, self.max_steps)
        )

    def _watch(self) -> None:
        done = self.num_updates()
        with ProgressLine("sweep", sum(self.max_steps), done, seconds_between_lines=self.seconds_between_lines) as line:
            ended = False
            while not ended:
                ended = self._ended.wait(_SECONDS_BETWEEN_LOOKS)  # and then a last look
                gained = max(0, self.num_updates() - line.done)  # a run that goes on falls back to its checkpoint
                num_finished = sum(map(is_finished, self.folders))
                line.advance(gained, detail=f"{num_finished} of {len(self.folders)} runs finished")


def _last_step(table: Path) -> int:
    """The step of a table's last whole row: several updates of one batch may share a row."""
    rows = table.read_bytes().split(b"\n")[1:-1] if table.exists() else []
    return int(rows[-1].partition(b",")[0]) if rows else 0
