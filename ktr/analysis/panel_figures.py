"""Panels of curves, of one run or of several on the same axes: faint values, a running mean, and the mean of all."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.figure_style import WIDTH
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.statistics import smooth
from ktr.record.panels import PUBLISHED, Panel, sections

COLORS = ("#1d8a6e", "#c2703d", "#4c5f8a", "#8a4c7d", "#a08a2e", "#5aa0b8", "#b5483a", "#66717e")
STYLES = ("-", "--", ":", "-.")
WINDOW = 20  # of the published curves
_PER_ROW = 2


def draw_section(runs: Sequence[RunFolder], section: str) -> Figure | None:
    """Every panel of a section that any of the runs has data for; None where there is none."""
    panels = [panel for panel in sections()[section] if any(panel.among(_logged(run)) for run in runs)]
    if not panels:
        return None
    num_rows = -(-len(panels) // _PER_ROW)
    figure = Figure(figsize=(WIDTH, 0.2 + 2.5 * num_rows), layout="constrained")
    all_axes = figure.subplots(num_rows, _PER_ROW, squeeze=False).flatten()
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw_panel(axes, runs, panel)
    for axes in all_axes[len(panels) :]:
        axes.remove()
    return figure


def _logged(run: RunFolder) -> list[str]:
    return [*run.metrics, *run.timings]


def _draw_panel(axes: Axes, runs: Sequence[RunFolder], panel: Panel) -> None:
    """One run has a colour for each metric; of several each has its own, and a metric its style of line."""
    names = list(dict.fromkeys(name for run in runs for name in panel.among(_logged(run))))
    short = {name: name.rsplit("/", 1)[-1].removesuffix("_seconds") for name in names}
    if len(set(short.values())) < len(names):  # val/greedy/accuracy and val/sampled/accuracy
        short = {name: name.split("/", 1)[-1] for name in names}
    colors = cycle(COLORS)
    for run in runs:
        of_run = next(colors)
        for name, style in zip(names, cycle(STYLES if len(runs) > 1 else STYLES[:1]), strict=False):
            steps, values = (run.metrics | run.timings).get(name, ([], []))
            color = of_run if len(runs) > 1 else (of_run if name == names[0] else next(colors))
            if values:
                what = [run.name] * (len(runs) > 1) + [short[name]] * (len(names) > 1)
                label = " ".join([*what, f"(mean {np.mean(values):.3g})"])
                _draw_curve(axes, steps, values, color, style, label)
    for name in names:
        if name in PUBLISHED and len(runs) == 1 and _is_near(axes, PUBLISHED[name]):
            axes.axhline(PUBLISHED[name], color=palette.MUTED, lw=0.8, ls=":")
    axes.set_title(panel.title)
    axes.set_xlabel("step")
    axes.legend(fontsize=7)


def _draw_curve(axes: Axes, steps: Sequence[int], values: Sequence[float], color: str, style: str, label: str) -> None:
    if len(values) < WINDOW:
        axes.plot(steps, values, color=color, ls=style, lw=1.4, marker="o", ms=2.5, label=label)
    else:
        axes.plot(steps, values, color=color, lw=0.6, alpha=0.25)
        axes.plot(steps, smooth(values, WINDOW), color=color, ls=style, lw=1.7, label=label)
    axes.axhline(float(np.mean(values)), color=color, lw=0.6, alpha=0.6)


def _is_near(axes: Axes, value: float) -> bool:
    """Whether a published value can be shown without squeezing the run's own curves."""
    low, high = axes.get_ylim()
    return bool(low - (high - low) <= value <= high + (high - low))
