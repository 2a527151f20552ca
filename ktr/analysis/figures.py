"""The figures of a run, as PNG files in its ``figures`` folder. A figure that a run has no data for is left out."""

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.attribution_summary import attribution_summary, exclusive_fractions
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.analysis.panel_figures import draw_section
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.statistics import smooth
from ktr.analysis.upset import draw_combinations

ALWAYS_LOGGED = ("time/gradients_seconds",)  # at each step that has it, whatever trainer.log_every_n_steps is
LINES = ("#1d8a6e", "#4c5f8a", "#a9b4c0", "#c2703d")


def write_figures(run: RunFolder) -> dict[str, Path]:
    """Draw every figure that the run has data for; return the files by figure name."""
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    written = {}
    with matplotlib.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw(run)
            if figure is not None:
                written[name] = folder / f"{name}.png"
                figure.savefig(written[name])
    return written


def draw_accuracy(run: RunFolder) -> Figure | None:
    """Held-out accuracy before and after, with 95 % intervals, in total and by category."""
    ways = [way for way in ("sampled", "greedy") if run.accuracy("before", way) or run.accuracy("after", way)]
    if not ways:
        return None
    order = list(run.accuracy("after", ways[0]) or run.accuracy("before", ways[0]))
    figure = Figure(figsize=(WIDTH, 1.2 + 0.3 * len(order)), layout="constrained")
    for axes, way in zip(figure.subplots(1, len(ways), sharey=True, squeeze=False)[0], ways, strict=True):
        after = "accuracy" if "accuracy" in run.summary else "after"  # an evaluation's is before nothing
        _draw_intervals(axes, run.accuracy("before", way), order, palette.BEFORE, "before", -0.14)
        _draw_intervals(axes, run.accuracy("after", way), order, palette.AFTER, after, 0.14)
        if run.summary.get("chance") is not None:
            axes.axvline(run.summary["chance"], color=palette.MUTED, lw=1, ls=":", label="chance")
        axes.set_title(run.called(way))
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g}%")
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_yticks(range(len(order)), order)
    figure.axes[0].invert_yaxis()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_training(run: RunFolder) -> Figure | None:
    """Rewards, losses, gradient norm and lengths over the steps: raw values faint, a running mean on top."""
    panels = {
        "reward": [name for name in run.metrics if name.startswith("reward/") and name != "reward/std"],
        "held-out accuracy": [name for name in run.metrics if name.startswith("val/") and name.endswith("accuracy")],
        "loss": _distinct_losses(run),
        "gradient norm": [name for name in run.metrics if name == "grad/norm"],
        "completion tokens": [name for name in run.metrics if name == "rollout/completion_length"],
        "learning rate": [name for name in run.metrics if name == "lr"],
    }
    panels = {title: sorted(names) for title, names in panels.items() if names}
    if not panels:
        return None
    num_rows = -(-len(panels) // 3)
    figure = Figure(figsize=(WIDTH, 0.2 + 2.3 * num_rows), layout="constrained")
    all_axes = figure.subplots(num_rows, min(3, len(panels)), squeeze=False).flatten()
    for axes, (title, names) in zip(all_axes, panels.items(), strict=False):
        columns = {name.split("/", 1)[-1].removesuffix("/accuracy"): run.metrics[name] for name in names}
        _draw_curves(axes, columns, dict(zip(columns, cycle(LINES), strict=False)))
        axes.set_title(title)
    for axes in all_axes[len(panels) :]:
        axes.remove()
    return figure


def draw_selection(run: RunFolder) -> Figure | None:
    """Selected share of the tokens over the steps, and which signals agree on which share."""
    fractions = {
        name.split("/")[1]: column for name, column in run.metrics.items() if name.endswith("/selected_fraction")
    }
    if "attribution/union_fraction" in run.metrics:
        fractions["union"] = run.metrics["attribution/union_fraction"]
    records = [record for record in run.attribution or run.rollouts if record["selected"]]
    combinations = exclusive_fractions(records)
    if not fractions and not combinations:
        return None
    columns = [["by_step", "by_step"]] * bool(fractions) + [["shares", "sets"]] * bool(combinations)
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplot_mosaic([list(row) for row in zip(*columns)], height_ratios=(2.2, 1))
    if fractions:
        _draw_curves(axes["by_step"], fractions, palette.signal_colors(list(fractions)) | {"union": palette.INK})
        axes["by_step"].set_title("selected share of the tokens, by step")
        axes["by_step"].yaxis.set_major_formatter(lambda y, _: f"{100 * y:g}%")
        axes["by_step"].set_ylim(bottom=0)
    if combinations:
        draw_combinations(axes["shares"], axes["sets"], combinations)
        where = "held out" if run.attribution else "training"
        axes["shares"].set_title(f"tokens by the signals that select them ({where})")
    return figure


def draw_ground_truth(run: RunFolder) -> Figure | None:
    """AUROC of each signal, and the mean score of each signal on words of each role."""
    known = [record for record in run.attribution if "roles" in record]
    measured = run.summary.get("attribution") or attribution_summary(known)
    labels = {
        "visual_auroc": ("visual: content words\nagainst the rest", "visual"),
        "temporal_auroc": ("temporal: order and motion\nagainst the rest", "temporal"),
        "temporal_specificity": ("temporal: order and motion\nagainst appearance", "temporal"),
        "entropy_auroc": ("entropy: decisions\nagainst the rest", "entropy"),
    }
    others = [signal for signal in run.signals if f"{signal}_auroc" not in labels]
    labels |= {f"{signal}_auroc": (f"{signal}: words of any role\nagainst the rest", signal) for signal in others}
    bars = {label: (measured[key], signal) for key, (label, signal) in labels.items() if measured.get(key) is not None}
    if not bars:
        return None
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    signals = run.signals if known else []
    grid = figure.add_gridspec(1, 1 + len(signals), width_ratios=(1.4, *(1.0 for _ in signals)))
    left = figure.add_subplot(grid[0])
    colors = palette.signal_colors([*run.signals, "visual", "temporal", "entropy"])
    left.barh(list(bars), [value for value, _ in bars.values()], 0.55, color=[colors[s] for _, s in bars.values()])
    for row, (value, _) in enumerate(bars.values()):
        left.text(value - 0.02, row, f"{value:.3f}", ha="right", va="center", color="white", fontweight="bold")
    left.axvline(0.5, color="white", lw=1, ls=":")
    left.set_xlim(0, 1)
    left.set_title("AUROC")
    left.grid(visible=False)
    left.tick_params(axis="y", length=0)
    left.invert_yaxis()
    for column, signal in enumerate(signals, start=1):
        axes = figure.add_subplot(grid[column])
        _draw_scores_by_role(axes, known, signal, colors[signal])
        axes.tick_params(axis="y", labelleft=column == 1)
    return figure


def draw_throughput(run: RunFolder) -> Figure | None:
    """Tokens and questions per second, and the seconds of each step by part where they are known."""
    rates = {
        "completion tokens per second": ("train/tokens_per_second", "rollout/tokens_per_second"),
        "questions per second": ("train/questions_per_second",),
    }
    panels = {title: [name for name in names if name in run.timings] for title, names in rates.items()}
    parts = [name for name in run.timings if name.startswith("time/")]
    panels = {title: names for title, names in panels.items() if names}
    if not panels and not parts:
        return None
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    all_axes = figure.subplots(1, len(panels) + bool(parts), squeeze=False)[0]
    for axes, (title, names) in zip(all_axes, panels.items(), strict=False):
        columns = {name.split("/")[0]: run.timings[name] for name in names}
        _draw_curves(axes, columns, dict(zip(columns, cycle(LINES), strict=False)))
        axes.set_title(title)
        axes.set_ylim(bottom=0)
    if parts:
        labels = [name.removeprefix("time/").removesuffix("_seconds") for name in parts]
        rows_apart = run.setting("trainer.log_every_n_steps") or 1
        every = {name: 1 if name in ALWAYS_LOGGED else rows_apart for name in parts}
        num_steps = max(every[name] * len(run.timings[name][1]) for name in parts)  # not every step has every part
        seconds = [every[name] * sum(run.timings[name][1]) for name in parts]
        means = dict(zip(labels, (total / num_steps for total in seconds), strict=True))
        axes = all_axes[-1]
        axes.barh(list(means), list(means.values()), 0.55, color=LINES[1])
        axes.set_title("mean seconds of a step, by part")
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
    return figure


def draw_gradients(run: RunFolder) -> Figure | None:
    """Norms and cosines of the gradients of parts of the tokens, and the variance of their losses."""
    return draw_section([run], "Gradients") if "grad/norm/all" in run.metrics else None


FIGURES: Mapping[str, Callable[[RunFolder], Figure | None]] = {
    "accuracy": draw_accuracy,
    "training": draw_training,
    "selection": draw_selection,
    "gradients": draw_gradients,
    "ground_truth": draw_ground_truth,
    "throughput": draw_throughput,
}


def _distinct_losses(run: RunFolder) -> list[str]:
    """The total and those of its terms that are neither all of it nor zero; ratios, shares, variances are no terms."""
    total = run.metrics.get("loss/total", ([], []))[1]
    others = ("_fraction", "_mean", "/variance", "/variance_all")
    terms = {name for name in run.metrics if name.startswith("loss/") and not name.endswith(others)}
    return [name for name in terms if name == "loss/total" or run.metrics[name][1] not in (total, [0.0] * len(total))]


def _draw_intervals(axes: Axes, rows: dict[str, dict], order: list[str], color: str, label: str, shift: float) -> None:
    kept = [name for name in order if name in rows]
    if not kept:
        return
    values = np.array([rows[name]["accuracy"] for name in kept])
    ends = np.array([[rows[name]["low"], rows[name]["high"]] for name in kept])
    places = [order.index(name) + shift for name in kept]
    reach = np.abs(ends - values[:, None]).T
    axes.errorbar(values, places, xerr=reach, fmt="o", ms=5, color=color, elinewidth=2.2, label=label)


def _draw_curves(axes: Axes, columns: Mapping[str, tuple[list[int], list[float]]], colors: Mapping[str, str]) -> None:
    for name, (steps, values) in columns.items():
        if len(values) < 20:
            axes.plot(steps, values, color=colors[name], lw=1.6, marker="o", ms=3, label=name)
        elif name == "lr":
            axes.plot(steps, values, color=colors[name], lw=1.8)
        else:
            axes.plot(steps, values, color=colors[name], lw=0.7, alpha=0.3)
            window = min(20, max(5, len(values) // 10))
            axes.plot(steps, smooth(values, window), color=colors[name], lw=1.8, label=name)
    axes.set_xlabel("step")
    if len(columns) > 1:
        axes.legend()


def _draw_scores_by_role(axes: Axes, records: list[dict], signal: str, color: str) -> None:
    by_role: dict[str, list[float]] = {}
    for record in records:
        for score, role in zip(record["scores"].get(signal, ()), record["roles"], strict=False):
            by_role.setdefault(role, []).append(score)
    order = [role for role in ("appearance", "order_motion", "decision", "derived", "nothing") if role in by_role]
    names = [role.replace("order_motion", "order,\nmotion") for role in order]
    means = [float(np.mean(by_role[role])) for role in order]
    axes.barh(names, means, 0.55, color=[color if role != "nothing" else palette.BEFORE for role in order])
    axes.set_title(f"mean {signal} score", fontsize=9)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.invert_yaxis()
