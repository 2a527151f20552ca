"""The values of a table: obtained means, intervals and paired differences, beside what the paper published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ktr.analysis.statistics import MeanInterval, mean_interval, paired_difference
from ktr.tables.comparable import Comparison, compare
from ktr.tables.published import Published, published
from ktr.tables.runs import TableRun, TableRuns

WAYS = ("greedy", "sampled")  # the order of the ways of answering; others follow by name
ALL_ROWS_SHOWN = ("main",)  # tables that show the paper's rows without a run of ours too


@dataclass(frozen=True)
class Cell:
    """One row's accuracies in [0, 1] over its seeds, and the paired difference from the baseline row."""

    by_seed: Mapping[int, float]
    num_questions: tuple[int, ...] = ()
    difference: MeanInterval | None = None

    @property
    def mean(self) -> MeanInterval | None:
        return mean_interval([self.by_seed[seed] for seed in sorted(self.by_seed)]) if self.by_seed else None


@dataclass(frozen=True)
class Row:
    """A row of the table. ``runs`` are the finished ones; ``published`` is in percent."""

    name: str
    label: str
    runs: tuple[TableRun, ...]
    planned: bool
    cells: Mapping[str, Cell]
    published: Mapping[str, float | None]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


@dataclass(frozen=True)
class Table:
    """A table: its rows in order, its metrics, and whether its rows are comparable."""

    source: TableRuns
    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    published: Published
    comparison: Comparison
    notes: tuple[str, ...]

    @property
    def unfinished(self) -> list[str]:
        """A sentence for each seed that planned rows lack, naming them."""
        lacking = {
            seed: [row.name for row in self.rows if row.planned and seed not in row.seeds] for seed in self.source.seeds
        }
        return [f"Not finished at seed {seed}: {', '.join(rows)}." for seed, rows in lacking.items() if rows]


@dataclass(frozen=True)
class Measured:
    """Accuracies on benchmarks, with the number of items, that no run measured itself.

    ``runs`` has them by a run's folder, ``rows`` by the name of a row that is published, each by metric
    (``benchmark/mmvu_mc``). ``notes`` say how they were asked.
    """

    runs: Mapping[Path, Mapping[str, tuple[float, int]]] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, tuple[float, int]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


NOTHING = Measured()


def read_table(source: TableRuns, measured: Measured = NOTHING) -> Table:
    """Compute every value of the table that its finished runs give, and what was ``measured`` of them."""
    source = _with(source, measured)
    comparison = compare(source)
    finished = {row: source.finished(row) for row in source.rows}
    of_rows = measured.rows if source.name in ALL_ROWS_SHOWN else {}
    found = {metric for runs in finished.values() for run in runs for metric in run.accuracies()}
    metrics = _in_order(found.union(*of_rows.values()))
    paper = published(source.name)
    values = {row: {metric: _values(runs, metric) for metric in metrics} for row, runs in finished.items()}
    baseline = values.get(source.baseline, {})
    rows = []
    for row, runs in finished.items():
        compared = row != source.baseline and row not in comparison.apart
        cells = {
            metric: cell_of(by_seed, baseline.get(metric, {}) if compared else {}, _num_questions(runs, metric))
            for metric, by_seed in values[row].items()
        }
        rows.append(Row(row, row, tuple(runs), True, cells, paper.rows.get(row, {})))
    if source.name in ALL_ROWS_SHOWN:
        others = [row for row in paper.rows if row not in source.rows]
        for row in others:
            cells = {metric: Cell({0: value}, (n,)) for metric, (value, n) in of_rows.get(row, {}).items()}
            rows.append(Row(row, paper.models.get(row, row), (), False, cells, paper.rows[row]))
    notes = (*_notes(source, comparison), *measured.notes)
    return Table(source, tuple(rows), metrics, paper, comparison, notes)


def cell_of(by_seed: Mapping[int, float], baseline: Mapping[int, float], num_questions: Sequence[int] = ()) -> Cell:
    """A cell whose difference is taken from ``baseline`` (seed → accuracy), where they have seeds in common."""
    return Cell(by_seed, tuple(num_questions), paired_difference(by_seed, baseline))


def _with(source: TableRuns, measured: Measured) -> TableRuns:
    rows = {
        row: tuple(replace(run, measured=measured.runs.get(run.path, {})) for run in runs)
        for row, runs in source.rows.items()
    }
    return replace(source, rows=rows)


def _values(runs: Sequence[TableRun], metric: str) -> dict[int, float]:
    measured = {run.seed: run.accuracies() for run in runs}
    return {seed: found[metric][0] for seed, found in measured.items() if metric in found}


def _num_questions(runs: Sequence[TableRun], metric: str) -> list[int]:
    return sorted({run.accuracies()[metric][1] for run in runs if metric in run.accuracies()})


def _in_order(metrics: set[str]) -> tuple[str, ...]:
    """After training, on benchmarks, before training; greedy before sampled."""

    def rank(metric: str) -> tuple[int, int, str]:
        when, _, what = metric.partition("/")
        return (
            ("after", "benchmark", "before").index(when),
            WAYS.index(what) if what in WAYS else len(WAYS),
            what,
        )

    return tuple(sorted(metrics, key=rank))


def _notes(source: TableRuns, comparison: Comparison) -> list[str]:
    notes = [*comparison.notes]
    if comparison.apart:
        rows = [row for row in source.rows if row in comparison.apart and row != source.baseline]
        notes.append(f"No difference is given for {', '.join(rows)}: not comparable with {source.baseline}.")
    expected = {run.seed for run in source.finished(source.baseline)}
    if not expected:
        notes.append(f"No difference is given: the baseline row {source.baseline} has no finished run.")
    for row in source.rows:
        seeds = {run.seed for run in source.finished(row)}
        common = sorted(seeds & expected)
        if seeds and expected and seeds != expected and row not in comparison.apart:
            told = f"of seeds {', '.join(map(str, common))} alone" if common else "not given"
            notes.append(f"{row} and {source.baseline} have different seeds: their difference is {told}.")
    for run in source.repeated:
        notes.append(f"{run.row}, seed {run.seed} was run more than once: {run.path.name} is not counted.")
    return notes
