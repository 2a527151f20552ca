"""An UpSet plot: which signals agree on which share of the tokens."""

from collections.abc import Mapping
from itertools import islice

from matplotlib.axes import Axes

from ktr.analysis import palette

MAX_COMBINATIONS = 12  # whose numbers have room side by side


def draw_combinations(upper: Axes, lower: Axes, combinations: Mapping[tuple[str, ...], float]) -> None:
    """Bars of the first ``MAX_COMBINATIONS`` exclusive shares above a matrix of dots that names the sets."""
    combinations = dict(islice(combinations.items(), MAX_COMBINATIONS))
    found = {signal for signals in combinations for signal in signals}
    signals = [name for name in palette.SIGNALS if name in found] + sorted(found.difference(palette.SIGNALS))
    colors = palette.signal_colors(signals)
    places = range(len(combinations))
    bar_colors = [colors[chosen[0]] if len(chosen) == 1 else palette.MUTED for chosen in combinations]
    bars = upper.bar(places, list(combinations.values()), 0.6, color=bar_colors)
    upper.bar_label(bars, labels=[f"{value:.1%}" for value in combinations.values()], fontsize=8, color=palette.INK)
    upper.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g}%")
    upper.margins(y=0.15)
    for row, signal in enumerate(signals):
        lower.scatter(places, [row] * len(places), s=36, color=palette.GRID)
        held = [at for at, chosen in enumerate(combinations) if signal in chosen]
        lower.scatter(held, [row] * len(held), s=46, color=colors[signal], zorder=3)
    for at, chosen in enumerate(combinations):
        rows = [signals.index(signal) for signal in chosen]
        lower.plot([at, at], [min(rows), max(rows)], color=palette.MUTED, lw=1.6, zorder=2)
    lower.set_yticks(range(len(signals)), signals)
    lower.set_ylim(len(signals) - 0.5, -0.5)
    lower.set_xticks([])
    upper.set_xticks([])
    upper.set_xlim(-0.6, len(combinations) - 0.4)
    lower.set_xlim(upper.get_xlim())
    lower.grid(visible=False)
    lower.spines[:].set_visible(False)
    lower.tick_params(length=0)
