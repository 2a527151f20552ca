"""A leaderboard in pictures: bars by benchmark, and a radar of a benchmark's subtasks."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.evaluation.asking.results import published_of
from ktr.evaluation.reports.folder import EvaluationFolder
from ktr.evaluation.reports.leaderboard import Leaderboard
from ktr.tables.published import published

SUBTASKS_FOR_A_RADAR = range(3, 13)
COLORS = (palette.AFTER, *palette.SIGNALS.values(), *palette.OTHER_SIGNALS)


def write_figures(board: Leaderboard, output: Path) -> dict[str, Path]:
    """bars.png, and radar-<benchmark>.png of each that has from three to twelve subtasks; by what they show."""
    written = {}
    with matplotlib.rc_context(STYLE):
        figures = {"bars": ("accuracy by benchmark", draw_bars(board))}
        for benchmark in board.benchmarks:
            column = {name: row[benchmark] for name, row in board.cells.items() if benchmark in row}
            subtasks = _subtasks(column)
            if len(subtasks) in SUBTASKS_FOR_A_RADAR:
                figures[f"radar-{benchmark}"] = f"subtasks of {benchmark}", draw_radar(benchmark, column, subtasks)
        for name, (title, figure) in figures.items():
            written[title] = output / f"{name}.png"
            figure.savefig(written[title])
    return written


def draw_bars(board: Leaderboard) -> Figure:
    """A group of bars a benchmark with 95 % intervals; the best published number as a line."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(board.cells))
    for place, (name, row) in enumerate(board.cells.items()):
        found = [(x, row[benchmark].summary) for x, benchmark in enumerate(board.benchmarks) if benchmark in row]
        found = [(x, summary) for x, summary in found if summary["accuracy"] is not None]
        means = np.array([100 * summary["accuracy"] for _, summary in found])
        bounds = [[100 * summary[f"accuracy_{end}"] for _, summary in found] for end in ("low", "high")]
        errors = np.abs(np.array(bounds) - means) if found else None
        at = [x - 0.4 + (place + 0.5) * width for x, _ in found]
        color = COLORS[place % len(COLORS)]
        axes.bar(at, means, width * 0.92, yerr=errors, label=name, color=color, ecolor=palette.INK)
    for x, benchmark in enumerate(board.benchmarks):
        if best := max(published_of(benchmark).values(), default=None):
            label = "best published" if x == 0 else "_"
            axes.hlines(best, x - 0.45, x + 0.45, colors=palette.MUTED, linestyles=":", label=label)
    axes.set_xticks(range(len(board.benchmarks)), board.benchmarks)
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 100)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_radar(benchmark: str, column: dict[str, EvaluationFolder], subtasks: list[str]) -> Figure:
    """Accuracy by subtask, each model a ring; of Video-Holmes also the published one."""
    angles = np.linspace(0, 2 * np.pi, len(subtasks), endpoint=False)
    figure = Figure(figsize=(5.4, 5.0), layout="constrained")
    axes = figure.add_subplot(projection="polar")
    rings = {
        name: [result.summary["by_subtask"].get(subtask, {}).get("accuracy") for subtask in subtasks]
        for name, result in column.items()
    }
    if benchmark == "video_holmes":
        for row, values in published("video_holmes_subtasks").rows.items():
            found = [values.get(subtask) for subtask in subtasks]
            rings[f"{row}, published"] = [None if value is None else value / 100 for value in found]
    for place, (name, values) in enumerate(rings.items()):
        radii = [float("nan") if value is None else 100 * value for value in values]
        color = COLORS[place % len(COLORS)]
        style = ":" if name.endswith("published") else "-"
        axes.plot([*angles, angles[0]], [*radii, radii[0]], style, color=color, label=name)
        axes.fill(angles, radii, color=color, alpha=0.06)
    axes.set_xticks(angles, subtasks)
    axes.set_ylim(0, 100)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _subtasks(column: dict[str, EvaluationFolder]) -> list[str]:
    return [*dict.fromkeys(name for result in column.values() for name in result.summary["by_subtask"])]
