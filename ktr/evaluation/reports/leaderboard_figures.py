"""The figures of a leaderboard: bars of each benchmark, and a radar of the subtasks of one that has several."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.evaluation.reports.leaderboard import SUBTASKS, Leaderboard, subtasks, value_of
from ktr.record.file_name import file_name
from ktr.tables.figures import COLORS
from ktr.tables.published import published

PER_ROW = 3
MAX_POLYGONS = len(COLORS)  # more of them cannot be told apart


def write_leaderboard_figures(folder: Path, board: Leaderboard) -> dict[str, Path]:
    """Draw bars.png, and radar-<benchmark>.png of each benchmark with three subtasks or more; the files by name."""
    written = {}
    with matplotlib.rc_context(STYLE):
        figures = {"bars": draw_bars(board)}
        with_subtasks = [name for name in board.columns if subtasks(board, name)]
        figures |= {f"radar-{file_name(name)}": draw_radar(board, name) for name in with_subtasks}
        for name, figure in figures.items():
            written[name] = folder / f"{name}.png"
            figure.savefig(written[name])
    return written


def draw_bars(board: Leaderboard) -> Figure:
    """A panel for each benchmark: obtained accuracy with its interval by row, published rows in grey."""
    width = min(PER_ROW, len(board.columns))
    height = -(-len(board.columns) // width)
    figure = Figure(figsize=(WIDTH, height * (0.9 + 0.24 * len(board.rows))), layout="constrained")
    all_axes = figure.subplots(height, width, squeeze=False, sharey=True).flatten()
    for axes, column in zip(all_axes, board.columns, strict=False):
        _draw_column(axes, board, column)
    for axes in all_axes[len(board.columns) :]:
        axes.remove()
    all_axes[0].invert_yaxis()
    return figure


def draw_radar(board: Leaderboard, column: str) -> Figure:
    """Accuracy by subtask, a line for each row, of the best nine; those that are published of it dashed."""
    names = subtasks(board, column)
    obtained = {
        f"{row.label} {board.brackets(row, column)}".rstrip(): {
            name: value[0] for name, of in row.results[column].summary["by_subtask"].items() if (value := value_of(of))
        }
        for row in board.rows
        if column in row.results
    }
    paper = {f"{row}, published": values for row, values in published(SUBTASKS.get(column, "")).rows.items()}
    angles = 2 * np.pi * np.arange(len(names)) / len(names)
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    for color, (label, values) in zip(COLORS, [*obtained.items()][:MAX_POLYGONS], strict=False):
        _draw_polygon(axes, angles, names, values, label, {"color": color, "lw": 1.8, "marker": "o", "ms": 3})
    for color, (label, values) in zip(COLORS[::-1], paper.items(), strict=False):
        known = {name: value for name, value in values.items() if value is not None}
        _draw_polygon(axes, angles, names, known, label, {"color": color, "lw": 1, "ls": "--"})
    axes.set_xticks(angles, names)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:g}%")
    axes.grid(visible=True)
    axes.set_theta_zero_location("N")  # pyright: ignore[reportAttributeAccessIssue] # of polar axes
    axes.set_title(column)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _draw_polygon(
    axes: Axes, angles: np.ndarray, names: Sequence[str], values: Mapping[str, float], label: str, look: dict
) -> None:
    """Closed where every subtask has a value; where one has none, the line is cut there."""
    radii = [values.get(name, np.nan) for name in names]
    axes.plot([*angles, angles[0]], [*radii, radii[0]], label=label, **look)


def _draw_column(axes: Axes, board: Leaderboard, column: str) -> None:
    for place, row in enumerate(board.rows):
        value = value_of(row.results[column].summary) if column in row.results else None
        if value is not None:
            reach = [[max(0.0, value[0] - value[1])], [max(0.0, value[2] - value[0])]]
            axes.barh(place, value[0], 0.62, color=palette.AFTER)
            axes.errorbar(value[0], place, xerr=reach, fmt="none", ecolor=palette.INK, elinewidth=1)
            axes.text(1, place, f" {board.brackets(row, column)}", color="white", va="center", fontsize=7)
        elif column in row.published:
            axes.barh(place, row.published[column], 0.62, color=palette.BEFORE)
    axes.set_title(column)
    axes.set_xlim(0, 100)
    axes.xaxis.set_major_formatter("{x:g}%")
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(board.rows)), [row.label for row in board.rows])
    axes.tick_params(axis="y", length=0)
