"""A table as text: the cells that Markdown, LaTeX and the console share, with the sentences around them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ktr.analysis.statistics import MeanInterval
from ktr.tables.cost import CPU, WINDOW, Cost
from ktr.tables.published import column_title, load
from ktr.tables.values import Cell, Row, Table

NONE = "—"
MINUS = "\N{MINUS SIGN}"
PAPER = "7B, paper"


@dataclass(frozen=True)
class Grid:
    """Column titles and rows of cells; the first column names the row."""

    columns: list[str]
    rows: list[list[str]]


def results_grid(table: Table) -> Grid:
    """Seeds, questions, accuracy after training with differences, the paper's columns, accuracy before training.

    The paper's average stands first, beside what was obtained.
    """
    after = [metric for metric in table.metrics if not metric.startswith("before/")]
    before = [metric for metric in table.metrics if metric.startswith("before/")]
    paper = sorted(table.published.columns, key=lambda column: column != "average")
    baseline = table.source.baseline
    columns = ["row", "seeds", "n"]
    for metric in after:
        columns += [metric_title(metric), f"Δ {baseline}"]
    columns += [f"{PAPER}: {column_title(column)}" for column in paper]
    columns += [metric_title(metric) for metric in before]
    rows = []
    for row in table.rows:
        cells = [row.label, _seeds(row, table), _num_questions(row, after)]
        for metric in after:
            cell = row.cells.get(metric, Cell({}))
            cells += [percent(cell.mean), _difference(cell, is_baseline=row.name == baseline)]
        if row.planned and not row.runs:
            cells[3 if after else 1] = f"{NONE} (0 of {len(table.source.seeds)} seeds)"
        cells += [_published(row.published.get(column)) for column in paper]
        cells += [percent(row.cells.get(metric, Cell({})).mean) for metric in before]
        rows.append(cells)
    return Grid(columns, rows)


def results_notes(table: Table) -> list[str]:
    """What a reader of the results must know, one sentence or two each. The same for the same runs."""
    notes = [*table.unfinished, *table.notes]
    notes.append(
        "Accuracy on held-out questions in percent: the mean over the seeds ± half of Student's 95 % interval. "
        f"Δ {table.source.baseline} is the paired difference from that row, seed by seed, with the same interval."
    )
    if table.published.columns:
        about = f" ({table.published.note})" if table.published.note else ""
        notes.append(f"Columns “{PAPER}”: {load()['source']}{about}; other models and other questions than ours.")
    return notes


def cost_grid(table: Table, cost: Cost) -> Grid:
    """Seconds of an update, and training accuracy at equal updates and at equal compute."""
    baseline = table.source.baseline
    columns = ["row", "s / update", f"× {baseline}", f"mean of {cost.updates} updates", f"Δ {baseline}"]
    columns += [f"last {WINDOW} of them", f"Δ {baseline}"]
    columns += ["updates at equal compute", "accuracy there", f"Δ {baseline}"]
    rows = []
    for row, spent in cost.rows.items():
        rows.append(
            [
                row,
                number(spent.seconds, 3),
                number(spent.relative, 2),
                percent(spent.whole_run.mean),
                _difference(spent.whole_run, is_baseline=row == baseline),
                percent(spent.equal_updates.mean),
                _difference(spent.equal_updates, is_baseline=row == baseline),
                NONE if spent.updates is None else str(spent.updates),
                percent(spent.equal_compute.mean),
                _difference(spent.equal_compute, is_baseline=row == baseline),
            ]
        )
    return Grid(columns, rows)


def cost_notes(cost: Cost) -> list[str]:
    clock = "CPU seconds of the process" if cost.clock == CPU else "seconds"
    return [
        f"Training: {clock} in an update, mean over the updates and the seeds (`{cost.clock}`). Accuracy is that of "
        "the training completions; a question is met before its update, so the mean of all updates says how fast a row "
        f"learns, and that of the last {WINDOW} how far it came.",
        f"Equal compute: of each row the updates that cost as much as {cost.updates} updates of the cheapest row.",
        *cost.notes,
    ]


def metric_title(metric: str) -> str:
    """``after/greedy`` → greedy; ``before/greedy`` → greedy before; ``benchmark/mmvu_mc`` → MMVU."""
    when, _, what = metric.partition("/")
    return f"{what} before" if when == "before" else column_title(what)


def percent(interval: MeanInterval | None, sign: bool = False) -> str:
    """``92.7 ± 1.4`` of accuracies in [0, 1]; ``+0.6 ± 1.6`` of differences; without the interval of a single seed."""
    if interval is None:
        return NONE
    scaled = MeanInterval(100 * interval.mean, interval.half_width and 100 * interval.half_width, interval.n)
    return number(scaled, 1, sign)


def number(interval: MeanInterval | None, digits: int, sign: bool = False) -> str:
    if interval is None:
        return NONE
    rounded = round(interval.mean, digits) + 0.0  # never "-0.0"
    text = f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)
    return text if interval.half_width is None else f"{text} ± {interval.half_width:.{digits}f}"


def _difference(cell: Cell, is_baseline: bool) -> str:
    return "baseline" if is_baseline and cell.by_seed else percent(cell.difference, sign=True)


def _seeds(row: Row, table: Table) -> str:
    if not row.planned:
        return NONE
    planned = len(table.source.seeds)
    return str(planned) if len(row.runs) == planned else f"{len(row.runs)} of {planned}"


def _num_questions(row: Row, metrics: Sequence[str]) -> str:
    found = sorted({n for metric in metrics for n in row.cells.get(metric, Cell({})).num_questions})
    return " / ".join(map(str, found)) or NONE


def _published(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
