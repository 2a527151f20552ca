"""table.csv, rows.csv and cost.csv: the numbers of a table, unrounded. An empty cell is a number that isn't there."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from ktr.analysis.statistics import MeanInterval
from ktr.tables.cost import Cost
from ktr.tables.values import Table

NO_INTERVAL = ("", "", "")


def table_csv(table: Table) -> str:
    """One line for each row and metric, in percent; a published number is a metric ``published/<column>``."""
    columns = ["row", "metric", "seeds", "questions", "mean", "half_width"]
    columns += ["difference", "difference_half_width", "difference_seeds"]
    lines = []
    for row in table.rows:
        for metric, cell in row.cells.items():
            questions = "/".join(map(str, cell.num_questions))
            numbers = (*_interval(cell.mean)[:2], *_interval(cell.difference))
            lines.append([row.name, metric, len(cell.by_seed), questions, *numbers])
        for column, value in row.published.items():
            if value is not None:
                lines.append([row.name, f"published/{column}", "", "", value, "", *NO_INTERVAL])
    return _text(columns, lines)


def rows_csv(table: Table) -> str:
    """One line for each row, seed and metric: the accuracy in [0, 1] as summary.json has it."""
    lines = [
        [row.name, run.seed, metric, accuracy, num_questions, run.path.name, run.commit]
        for row in table.rows
        for run in row.runs
        for metric, (accuracy, num_questions) in run.accuracies().items()
    ]
    return _text(["row", "seed", "metric", "accuracy", "questions", "run", "commit"], lines)


def cost_csv(cost: Cost) -> str:
    """One line for each row: seconds of an update, and training accuracies in percent."""
    pairs = ("seconds_per_update", "relative", "whole_run", "whole_run_difference", "equal_updates")
    pairs += ("equal_updates_difference", "equal_compute", "equal_compute_difference")
    columns = ["row", "updates", "updates_at_equal_compute"]
    columns += [name + end for name in pairs for end in ("", "_half_width")]
    lines = []
    for row, spent in cost.rows.items():
        cells = [spent.whole_run.mean, spent.whole_run.difference]
        cells += [spent.equal_updates.mean, spent.equal_updates.difference]
        cells += [spent.equal_compute.mean, spent.equal_compute.difference]
        numbers = [text for cell in (spent.seconds, spent.relative) for text in _interval(cell, scale=1)[:2]]
        numbers += [text for cell in cells for text in _interval(cell)[:2]]
        lines.append([row, cost.updates, "" if spent.updates is None else spent.updates, *numbers])
    return _text(columns, lines)


def _interval(interval: MeanInterval | None, scale: float = 100) -> tuple[Any, Any, Any]:
    if interval is None:
        return NO_INTERVAL
    half_width = "" if interval.half_width is None else scale * interval.half_width
    return scale * interval.mean, half_width, interval.n


def _text(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([columns, *lines])
    return file.getvalue()
