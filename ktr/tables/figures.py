"""The figures of a table: obtained beside published as bars, as lines where rows are numbers, and learning curves."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ktr.analysis import palette
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.analysis.statistics import MeanInterval
from ktr.tables.cost import CPU, WINDOW, Cost, Progress
from ktr.tables.grids import PAPER, metric_title
from ktr.tables.published import column_title
from ktr.tables.values import Row, Table

# Okabe and Ito's colours, distinct under common colour blindness, and two more; the baseline is grey.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b3f8c", "#8c564b", "#8a8f00")
NUMBERED = re.compile(r"(?:(.+)_)?(\d+(?:\.\d+)?)")  # ratio 0.2; video_ktr_32

Point = tuple[float, float, float]  # x, value in percent, half of the interval (0 where there is none)


def write_table_figures(folder: Path, table: Table, cost: Cost) -> dict[str, Path]:
    """Draw every figure that the table has data for; return the files by figure name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with matplotlib.rc_context(STYLE):
        figures = {"results": draw_bars(table), "lines": draw_lines(table), "curves": draw_curves(table, cost)}
        for name, figure in figures.items():
            path = folder / f"{name}.png"
            path.unlink(missing_ok=True)  # one of an earlier report, when there was data for it
            if figure is not None:
                figure.savefig(path)
                written[name] = path
    return written


def draw_bars(table: Table) -> Figure | None:
    """Obtained and published accuracy as bars, a group for each metric or benchmark, a colour for each row."""
    rows = [row for row in table.rows if row.runs]
    if not rows:
        return None
    metrics = [metric for metric in table.metrics if not metric.startswith("before/")]
    obtained = {
        row.name: [(at, *_percent(row.cells[name].mean)) for at, name in enumerate(metrics) if row.cells[name].by_seed]
        for row in rows
    }
    columns = [name for name in table.published.columns if any(row.published.get(name) is not None for row in rows)]
    paper = {row.name: _published_points(row, columns) for row in rows}
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    widths = [len(metrics) ** 0.5, max(1, len(columns)) ** 0.5]
    left, right = figure.subplots(1, 2, width_ratios=widths)
    colors = row_colors(table)
    _draw_groups(left, obtained, [metric_title(metric) for metric in metrics], colors)
    left.set_title("obtained, held out")
    _draw_groups(right, paper, [column_title(column) for column in columns], colors)
    right.set_title(f"published ({PAPER})")
    handles = {bars.get_label(): bars for axes in (left, right) for bars in axes.containers[::-1]}
    named = [row.name for row in rows if row.name in handles]
    figure.legend([handles[name] for name in named], named, loc="outside lower center", ncols=min(8, len(named)))
    return figure


def draw_lines(table: Table) -> Figure | None:
    """Where rows are numbers (frames, ratio): obtained and published accuracy against them, a line for each method."""
    numbered = {row.name: _number(row.name) for row in table.rows if row.runs}
    metrics = [metric for metric in table.metrics if metric.startswith("after/")]
    if len({number for found in numbered.values() if found for number in [found[1]]}) < 3 or not metrics:
        return None
    column = _fullest_column(table)
    panels: dict[str, dict[str, Point]] = {}
    for metric in metrics:
        cells = {row.name: row.cells[metric].mean for row in table.rows if row.runs}
        panels[f"{metric_title(metric)}, obtained"] = {
            name: (0, *_percent(mean)) for name, mean in cells.items() if mean is not None
        }
    published = {row.name: row.published.get(column) for row in table.rows if row.runs}
    values: dict[str, Point] = {name: (0, value, 0) for name, value in published.items() if value is not None}
    if values:
        panels[f"{column_title(column)} ({PAPER})"] = values
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    for axes, (title, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw_series(axes, points)
        axes.set_title(title)
        axes.set_xlabel(table.source.name)
        axes.yaxis.set_major_formatter("{x:g}%")
    return figure


def draw_curves(table: Table, cost: Cost) -> Figure | None:
    """Training accuracy, a running mean, mean over the seeds, against updates and against compute."""
    drawn = {row: curve for row, by_seed in cost.progress.items() if (curve := mean_curve(by_seed)) is not None}
    if not drawn:
        return None
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = row_colors(table)
    for row, (updates, seconds, accuracy) in drawn.items():
        style = "--" if row == table.source.baseline else "-"
        left.plot(updates, 100 * accuracy, style, color=colors[row], lw=1.6, label=row)
        if len(seconds):
            right.plot(seconds, 100 * accuracy, style, color=colors[row], lw=1.6)
    left.set_title(f"training accuracy, mean of {WINDOW} updates")
    left.set_xlabel("updates")
    right.set_title("the same, by compute")
    right.set_xlabel("CPU seconds" if cost.clock == CPU else "seconds")
    left.yaxis.set_major_formatter("{x:g}%")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=min(8, len(drawn)))
    return figure


def mean_curve(runs: Mapping[int, Progress]) -> tuple[NDArray, NDArray, NDArray] | None:
    """Updates that all seeds made, mean seconds up to each (empty where not known), and mean running accuracy."""
    logged = [run for run in runs.values() if run.accuracy]
    updates = sorted(set.intersection(*(set(run.accuracy) for run in logged))) if logged else []
    if not updates:
        return None
    accuracy = np.array([[run.mean_accuracy(at, WINDOW) for at in updates] for run in logged], float).mean(axis=0)
    timed = all(at in run.seconds for run in logged for at in updates)
    rows = np.diff([0, *updates])  # a row of seconds is that of an update, and may stand for several
    seconds = [np.cumsum([run.seconds[at] for at in updates] * rows) for run in logged] if timed else []
    return np.array(updates), np.mean(seconds, axis=0) if timed else np.array([]), accuracy


def row_colors(table: Table) -> dict[str, str]:
    others = [row.name for row in table.rows if row.name != table.source.baseline]
    colors = {row: COLORS[at % len(COLORS)] for at, row in enumerate(others)}
    return colors | {table.source.baseline: palette.MUTED}


def _draw_groups(
    axes: Axes, rows: Mapping[str, Sequence[Point]], groups: Sequence[str], colors: Mapping[str, str]
) -> None:
    points = [point for of_row in rows.values() for point in of_row]
    if not points:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing published", ha="center", va="center", color=palette.MUTED)
        return
    width = 0.84 / len(rows)
    for at, (row, of_row) in enumerate(rows.items()):
        if of_row:
            places, values, reaches = np.array(of_row).T
            shift = (at - (len(rows) - 1) / 2) * width
            axes.bar(places + shift, values, 0.9 * width, color=colors[row], label=row)
            shown = reaches > 0
            error = {"fmt": "none", "ecolor": palette.INK, "elinewidth": 1}
            axes.errorbar((places + shift)[shown], values[shown], yerr=reaches[shown], **error)
    lowest = min(value - reach for _, value, reach in points)
    highest = max(value + reach for _, value, reach in points)
    # Differences of a point would not show from 0: the axis starts below the lowest value, and says so.
    floor = max(0.0, 5 * np.floor((lowest - max(1, highest - lowest) / 2) / 5))
    axes.set_ylim(floor, max(1, min(100, highest + (highest - floor) / 20)))
    axes.yaxis.set_major_formatter("{x:g}%")
    axes.set_ylabel(f"from {floor:g}%" if floor else "")
    axes.set_xticks(range(len(groups)), groups)
    axes.tick_params(axis="x", length=0)


def _draw_series(axes: Axes, points: Mapping[str, Point]) -> None:
    """Numbered rows as lines; any other row as a level across."""
    series: dict[str, list[Point]] = {}
    for name, (_, value, reach) in points.items():
        found = _number(name)
        if found is None:
            axes.axhline(value, color=palette.MUTED, ls="--", lw=1.2, label=name)
        else:
            series.setdefault(found[0], []).append((found[1], value, reach))
    for color, (name, of_series) in zip(COLORS * len(series), series.items(), strict=False):
        places, values, reaches = np.array(sorted(of_series)).T
        yerr = reaches if reaches.any() else None
        axes.errorbar(places, values, yerr=yerr, color=color, marker="o", ms=4, lw=1.6, capsize=2, label=name or None)
    axes.set_xticks(sorted({place for of_series in series.values() for place, _, _ in of_series}))
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _fullest_column(table: Table) -> str:
    """The paper's column with a number for most of the rows that were run; the average where that is as full."""
    columns = sorted(table.published.columns, key=lambda column: column != "average")
    known = {column: sum(row.published.get(column) is not None for row in table.rows if row.runs) for column in columns}
    return max(known, key=lambda column: known[column], default="")


def _published_points(row: Row, columns: Sequence[str]) -> list[Point]:
    values = [(at, row.published.get(column)) for at, column in enumerate(columns)]
    return [(at, value, 0.0) for at, value in values if value is not None]


def _percent(interval: MeanInterval | None) -> tuple[float, float]:
    assert interval is not None
    return 100 * interval.mean, 100 * (interval.half_width or 0.0)


def _number(row: str) -> tuple[str, float] | None:
    """``video_ktr_32`` → ("video_ktr", 32); None of a row that is no number."""
    match = NUMBERED.fullmatch(row)
    return (match[1] or "", float(match[2])) if match else None
