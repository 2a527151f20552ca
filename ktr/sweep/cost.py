"""``python -m ktr.sweep.cost +experiment=table/controls``: what a sweep would cost, from runs that were measured.

An update is taken to cost the core-seconds that it did in finished runs below ``paths.runs``, of the same row where
there are any; what a run spends beside its updates is measured too. Finished runs of the sweep cost nothing.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from omegaconf import DictConfig

from ktr.config.command_line import check_command_line
from ktr.config.endings import write_lines
from ktr.config.table_rows import is_finished
from ktr.errors import MissingData
from ktr.record.json_file import read_object

HELP = frozenset({"-h", "--help"})


@dataclass(frozen=True)
class Measured:
    """Core-seconds of a finished run: of each update, and of all else."""

    per_update: float
    beside: float


@dataclass(frozen=True)
class PlannedRow:
    """The runs of a row that are not finished. ``core_minutes`` are of one of them."""

    row: str
    num_runs: int
    num_updates: int
    core_minutes: float
    from_own: bool


def planned_rows(jobs: Sequence[DictConfig]) -> list[PlannedRow]:
    """The rows of a sweep's jobs. Raises ``MissingData`` where no run was measured that could tell."""
    measured = measured_runs(Path(jobs[0].paths.runs))
    if not measured:
        raise MissingData(
            f"{jobs[0].paths.runs}: no finished run below it that tells what an update costs; run one row first "
            "(table.row=… table.seeds=[0])"
        )
    everything = [run for runs in measured.values() for run in runs]
    by_row: dict[str, list[DictConfig]] = {}
    for job in jobs:
        by_row.setdefault(str(job.table.row if job.get("table") is not None else job.name), []).append(job)
    planned = []
    for row, of_row in by_row.items():
        runs, left = measured.get(row), [job for job in of_row if not is_finished(Path(job.paths.run_dir))]
        per_update = fmean(run.per_update for run in runs or everything)
        beside = fmean(run.beside for run in runs or everything)
        num_updates = max(int(job.trainer.max_steps) for job in of_row)
        minutes = (num_updates * per_update + beside) / 60
        planned.append(PlannedRow(row, len(left), num_updates, minutes, runs is not None))
    return planned


def measured_runs(runs: Path) -> dict[str, list[Measured]]:
    """What the finished runs of tables below ``runs`` cost, by row."""
    found: dict[str, list[Measured]] = {}
    for path in sorted(runs.glob("table/*/*/summary.json")):
        summary, record = read_object(path) or {}, read_object(path.with_name("record.json")) or {}
        first = record["resumed"][-1]["step"] if record.get("resumed") else 0  # times are those of the last process
        num_updates, training = summary.get("num_updates", 0) - first, summary.get("training_cpu_seconds")
        if num_updates > 0 and training and summary.get("cpu_seconds"):
            row = path.parent.name.rpartition("-s")[0]
            measured = Measured(training / num_updates, summary["cpu_seconds"] - training)
            found.setdefault(row, []).append(measured)
    return found


def cost_lines(rows: Sequence[PlannedRow]) -> Iterator[str]:
    """A line a row, and the sum."""
    width = max(len(row.row) for row in rows)
    for row in rows:
        how = f"{row.num_updates} updates" if row.from_own else f"{row.num_updates} updates, by other rows"
        yield f"{row.row:{width}}  {row.num_runs} runs × {row.core_minutes:.1f} core-minutes ({how})"
    hours = sum(row.num_runs * row.core_minutes for row in rows) / 60
    yield f"{'all':{width}}  {sum(row.num_runs for row in rows)} runs, {hours:.1f} core-hours"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if HELP.intersection(arguments):
        return write_lines(lambda: [__doc__])
    return write_lines(lambda: cost_lines(planned_rows(check_command_line("train", arguments))))


if __name__ == "__main__":
    sys.exit(main())
