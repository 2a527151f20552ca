"""What the rows of a table cost, and their training accuracy at equal updates and at equal compute.

Each training question is met once, before its update: the training accuracy of the last updates estimates the accuracy
on unseen questions. These numbers rest on measured time, so they stand apart from the table of results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import Any

from ktr.analysis.statistics import MeanInterval, mean_interval
from ktr.tables.runs import TableRun
from ktr.tables.values import Cell, Table, cell_of

WINDOW = 20  # updates whose training accuracy is averaged
CPU, WALL = "train/cpu_seconds", "train/step_seconds"


@dataclass(frozen=True)
class Progress:
    """One run's training accuracy and seconds, by update."""

    accuracy: Mapping[int, float]
    seconds: Mapping[int, float]

    @cached_property
    def seconds_per_update(self) -> float:
        return sum(self.seconds.values()) / len(self.seconds)

    def mean_accuracy(self, update: int, window: int) -> float | None:
        """Mean training accuracy over the last ``window`` updates up to ``update``."""
        values = [value for step, value in self.accuracy.items() if update - window < step <= update]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class RowCost:
    """``relative``: seconds per update over the baseline's. ``updates``: those that the cheapest row's compute buys.

    ``whole_run``: training accuracy over all of the equal updates, which says how fast a row learns.
    """

    seconds: MeanInterval | None
    relative: MeanInterval | None
    updates: int | None
    whole_run: Cell
    equal_updates: Cell
    equal_compute: Cell


@dataclass(frozen=True)
class Cost:
    """The cost of each row that has a finished run. ``updates`` is the number of equal updates."""

    clock: str
    updates: int
    rows: Mapping[str, RowCost]
    progress: Mapping[str, Mapping[int, Progress]]  # row → seed
    notes: tuple[str, ...]


def read_cost(table: Table) -> Cost:
    """Read the step tables of all finished runs. Rows without training accuracy have no equal updates."""
    runs = [run for row in table.rows for run in row.runs]
    clock = _clock(runs)
    progress = {
        row.name: {
            run.seed: Progress(run.steps("metrics.csv", "reward/accuracy"), run.steps("timings.csv", clock))
            for run in row.runs
        }
        for row in table.rows
        if row.runs
    }
    ends = [max(run.accuracy) for by_seed in progress.values() for run in by_seed.values() if run.accuracy]
    updates = min(ends, default=0)
    seconds = {
        row: {seed: run.seconds_per_update for seed, run in by_seed.items() if run.seconds}
        for row, by_seed in progress.items()
    }
    means = {row: mean_interval(list(by_seed.values())) for row, by_seed in seconds.items() if by_seed}
    learning = [row for row in means if any(run.accuracy for run in progress[row].values())]
    cheapest = min((means[row].mean for row in learning), default=0.0)
    affordable = {row: floor(updates * cheapest / means[row].mean + 1e-9) for row in learning}
    whole_run = {row: _accuracies(by_seed, updates, updates) for row, by_seed in progress.items()}
    equal_updates = {row: _accuracies(by_seed, updates) for row, by_seed in progress.items()}
    equal_compute = {row: _accuracies(by_seed, affordable.get(row, 0)) for row, by_seed in progress.items()}
    baseline = table.source.baseline
    rows = {}
    for row in progress:
        compared = row != baseline and row not in table.comparison.apart
        rows[row] = RowCost(
            means.get(row),
            _relative(seconds[row], seconds.get(baseline, {})),
            affordable.get(row),
            cell_of(whole_run[row], whole_run.get(baseline, {}) if compared else {}),
            cell_of(equal_updates[row], equal_updates.get(baseline, {}) if compared else {}),
            cell_of(equal_compute[row], equal_compute.get(baseline, {}) if compared else {}),
        )
    return Cost(clock, updates, rows, progress, tuple(_notes(runs, updates)))


def _accuracies(by_seed: Mapping[int, Progress], update: int, window: int = WINDOW) -> dict[int, float]:
    found = {seed: run.mean_accuracy(update, window) for seed, run in by_seed.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _relative(seconds: Mapping[int, float], baseline: Mapping[int, float]) -> MeanInterval | None:
    ratios = [seconds[seed] / baseline[seed] for seed in sorted(seconds.keys() & baseline.keys())]
    return mean_interval(ratios) if ratios else None


def _clock(runs: Sequence[TableRun]) -> str:
    """CPU time if every run has it and ran on CPU: other work on the machine doesn't change it. Else wall time."""
    on_cpu = all(_at(run.config, "trainer", "accelerator") == "cpu" for run in runs)
    by_wall_alone = any(run.steps("timings.csv", WALL) and not run.steps("timings.csv", CPU) for run in runs)
    return CPU if on_cpu and not by_wall_alone else WALL


def _notes(runs: Sequence[TableRun], updates: int) -> list[str]:
    again: dict[str, str] = {}
    for run in runs:
        asked, held = _at(run.config, "data", "questions_per_step"), _at(run.config, "data", "train", "num_questions")
        if not (isinstance(asked, int) and isinstance(held, int)):
            return ["The config doesn't tell how many training questions there are: some may be met more than once."]
        if (met := round(asked * _num_batches(run, updates))) > held:
            again[run.row] = f"{met} questions of {held}"
    return [
        f"{updates} updates of {row} take {told}: some are met more than once, so training accuracy is no estimate of "
        "accuracy on unseen questions."
        for row, told in again.items()
    ]


def _num_batches(run: TableRun, updates: int) -> float:
    """The batches that so many updates took: dynamic sampling takes several for a step."""
    for_a_step = list(run.steps("metrics.csv", "rollout/num_batches").values()) or [1.0]
    steps = updates // (_at(run.config, "algorithm", "updates_per_rollout") or 1)
    return steps * sum(for_a_step) / len(for_a_step)


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    node: Any = config
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
