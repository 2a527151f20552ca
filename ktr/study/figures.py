"""The figures of a study: shares of tokens, signal and noise, and along the ratio of selection."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.study.estimates import Estimate, RuleEstimates

MEASURES = {"signal": palette.AFTER, "noise": palette.SIGNALS["entropy"]}
HOLLOW: Any = {"color": palette.MUTED, "markerfacecolor": "none", "markersize": 6, "linestyle": "none"}
Sections = Mapping[str, Mapping[str, RuleEstimates]]


def write_study_figures(folder: Path, sections: Sections, token_shares: Mapping[str, float]) -> dict[str, Path]:
    """Draw shares.png, and curve.png where there are ratios; the files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    with matplotlib.rc_context(STYLE):
        figures = {"shares": draw_shares(sections, token_shares)}
        if sections.get("curve"):
            figures["curve"] = draw_curve(sections, token_shares)
        for name, figure in figures.items():
            written[name] = folder / f"{name}.png"
            figure.savefig(written[name])
    return written


def draw_shares(sections: Sections, token_shares: Mapping[str, float]) -> Figure:
    """A line for each kind of word and each rule: its shares of tokens, signal and noise, with intervals."""
    parts = [("kinds",), ("signals", "controls", "oracles")]
    columns = [
        {name: of for section in names for name, of in sections.get(section, {}).items() if token_shares[name] > 0}
        for names in parts
    ]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.26 * max(map(len, columns))), layout="constrained")
    for axes, names, rules in zip(figure.subplots(1, 2, sharex=True), parts, columns):
        axes.plot([token_shares[name] for name in rules], range(len(rules)), "o", **HOLLOW)
        for place, of in enumerate(rules.values()):
            for (measure, color), shift in zip(MEASURES.items(), (-0.14, 0.14)):
                _interval(axes, getattr(of, measure), place + shift, color)
        axes.set_yticks(range(len(rules)), list(rules))
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.grid(False, axis="y")
        axes.set_title(", ".join(names))
        axes.set_xlabel("share of the whole")
    figure.axes[0].plot([], [], "o", **HOLLOW, label="tokens")
    for measure, color in MEASURES.items():
        figure.axes[0].plot([], [], "o-", color=color, label=measure, markersize=4)
    figure.axes[0].legend(loc="lower right")
    return figure


def draw_curve(sections: Sections, token_shares: Mapping[str, float]) -> Figure:
    """Signal and noise of the union of all signals by how many tokens it takes, up to all of them."""
    rules = {**sections["curve"], **sections["whole"]}
    if union := list(sections["signals"].items())[-1:]:
        rules |= dict(union)
    names = sorted(rules, key=lambda name: token_shares[name])
    figure = Figure(figsize=(WIDTH * 0.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for measure, color in MEASURES.items():
        found = [getattr(rules[name], measure) for name in names]
        shares = [token_shares[name] for name in names]
        axes.plot(shares, [estimate.value for estimate in found], color=color, marker="o", markersize=4, label=measure)
        bounded = [(share, e) for share, e in zip(shares, found) if math.isfinite(e.low) and math.isfinite(e.high)]
        axes.vlines([x for x, _ in bounded], [e.low for _, e in bounded], [e.high for _, e in bounded], color=color)
    axes.axline((0, 0), slope=1, color=palette.GRID, zorder=0)
    axes.set_xlabel("share of the tokens in the union")
    axes.set_ylabel("share of signal, of noise")
    axes.legend()
    return figure


def _interval(axes: Axes, estimate: Estimate, place: float, color: str) -> None:
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        axes.plot([estimate.low, estimate.high], [place, place], color=color, linewidth=1.2)
    if math.isfinite(estimate.value):
        axes.plot(estimate.value, place, "o", color=color, markersize=4)
