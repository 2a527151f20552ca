"""The figures of words.html, from what words.json holds. A figure without data is left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ktr.analysis import palette
from ktr.analysis.attribution_summary import pair_names
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.analysis.upset import draw_combinations
from ktr.analysis.words.clouds import Clouds, excesses
from ktr.analysis.words.token_table import ALL, LEFT_OUT, UPDATED
from ktr.analysis.words.word_statistics import PUBLISHED

Entry = dict[str, Any]
NAMES: Mapping[str, str] = {
    **{"NOUN": "noun", "VERB": "verb", "ADJ": "adjective", "ADV": "adverb", "PRON": "pronoun", "DET": "determiner"},
    **{"ADP": "preposition", "CONJ": "conjunction", "PRT": "particle", "NUM": "number", "INTJ": "interjection"},
    **{"X": "other word", "PUNCT": "punctuation", "SYM": "symbol", "MARKUP": "markup", "SPACE": "blank"},
    **{"SPECIAL": "special token", "order_motion": "order, motion"},
}
MIN_SHARE_SHOWN = 0.005


def write_word_figures(statistics: Entry, folder: Path, clouds: Clouds) -> dict[str, Path]:
    """Draw ``words_<name>.png`` into ``folder``; return the files by figure name."""
    folder.mkdir(exist_ok=True)
    drawn: dict[str, Callable[[], Figure | None]] = {
        "parts_of_speech": lambda: draw_composition(statistics["parts_of_speech"], PUBLISHED),
        "roles": lambda: draw_composition(statistics["roles"], {}),
        "overlap": lambda: draw_overlap(
            statistics["overlap"], [name for name in statistics["words"] if name != UPDATED]
        ),
        "position": lambda: draw_position(statistics["position"]),
        "problem_type": lambda: draw_problem_types(statistics["problem_type"]),
        "clouds": lambda: draw_clouds(statistics["words"], clouds),
    }
    written = {}
    with matplotlib.rc_context(STYLE):
        for name, draw in drawn.items():
            if (figure := draw()) is not None:
                written[name] = folder / f"words_{name}.png"
                figure.savefig(written[name])
    return written


def draw_composition(shares: Entry, published: Mapping[str, Mapping[str, float]]) -> Figure | None:
    """The share of each class among the tokens of each set, with intervals; hollow where the paper has a number."""
    sets = {name: entries for name, entries in shares.items() if name not in (UPDATED, LEFT_OUT)}
    most = {kind: max(entries[kind]["value"] for entries in sets.values()) for kind in next(iter(sets.values()), ())}
    kinds = [kind for kind, share in most.items() if share >= MIN_SHARE_SHOWN]
    if not kinds:
        return None
    colors = set_colors(sets)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    for row in range(0, len(kinds), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=palette.GRID, alpha=0.45, lw=0)
    shifts = _shifts(len(sets), 0.62)
    for (name, entries), shift in zip(sets.items(), shifts, strict=True):
        draw_dots(axes, [entries[kind] for kind in kinds], np.arange(len(kinds)) + shift, colors[name], _label(name))
        for row, kind in enumerate(kinds):
            if kind in published.get(name, ()):
                share = published[name][kind]
                axes.plot(share, row + shift, "D", ms=6, mfc="none", mec=colors[name], mew=1.2, alpha=0.8)
    axes.set_yticks(range(len(kinds)), [NAMES.get(kind, kind) for kind in kinds])
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_title("share of the selected tokens")
    _percent_axis(axes)
    handles, labels = axes.get_legend_handles_labels()
    if any(name in published for name in sets):
        handles.append(Line2D([], [], ls="", marker="D", mfc="none", mec=palette.MUTED))
        labels.append("published")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def draw_overlap(overlap: Entry, signals: Sequence[str]) -> Figure | None:
    """Which signals agree on which tokens; Jaccard index and rank correlation of each pair."""
    total = sum(entry["count"] for entry in overlap["sets"])
    exact = {tuple(entry["signals"]): entry["count"] / total for entry in overlap["sets"] if entry["signals"]}
    titles = {"jaccard": "Jaccard index of the sets", "rank_correlation": "rank correlation of the scores"}
    pairs = {title: overlap[key] for key, title in titles.items() if overlap[key]}
    if not exact and not pairs:
        return None
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    grid = figure.add_gridspec(1, bool(exact) + bool(pairs), width_ratios=[1.5, 1][: bool(exact) + bool(pairs)])
    if exact:
        left = grid[0].subgridspec(2, 1, height_ratios=(2.2, 1))
        upper = figure.add_subplot(left[0])
        draw_combinations(upper, figure.add_subplot(left[1]), exact)
        upper.set_title("share of all tokens, by the signals that select them")
    if pairs:
        right, names = grid[-1].subgridspec(len(pairs), 1), pair_names(signals, ", ")
        for row, (title, entries) in enumerate(pairs.items()):
            axes = figure.add_subplot(right[row])
            draw_dots(axes, list(entries.values()), np.arange(len(entries)), palette.AFTER, title)
            axes.set_yticks(range(len(entries)), [names[pair] for pair in entries])
            axes.set_ylim(len(entries) - 0.5, -0.5)
            lows = [entry["low"] for entry in entries.values() if entry["low"] is not None]
            axes.set_xlim(min(0, *lows, 0) * 1.05, 1)
            axes.set_title(title)
            axes.grid(axis="x")
            axes.grid(visible=False, axis="y")
    return figure


def draw_position(position: Entry) -> Figure | None:
    """The selected share by the place in the completion and by the number of tokens before."""
    sets = list(position["relative"])
    colors = set_colors(sets)
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    titles = {"relative": "by place in the completion", "absolute": "by position, in tokens"}
    all_axes = figure.subplots(1, 2, sharey=True)
    for axes, (kind, title) in zip(all_axes, titles.items(), strict=True):
        places = list(position[kind][sets[0]])
        for name in sets:
            bins = [(at, entry) for at, entry in enumerate(position[kind][name].values()) if entry["count"]]
            at, (values, lows, highs) = [at for at, _ in bins], _columns(entry for _, entry in bins)
            width = 2.2 if name == UPDATED else 1.5
            axes.plot(at, values, color=colors[name], lw=width, marker="o", ms=3, label=_label(name))
            axes.fill_between(at, lows, highs, color=colors[name], alpha=0.13, lw=0)
        every = -(-len(places) // 7)
        axes.set_xticks(range(0, len(places), every), [place.replace(" %", "") for place in places[::every]])
        axes.set_xlabel("percent of the completion" if kind == "relative" else "tokens before")
        axes.set_title(f"selected share {title}")
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g}%")
        axes.set_ylim(bottom=0)
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(sets))
    return figure


def draw_problem_types(rates: Entry) -> Figure | None:
    """The selected share of the tokens of each problem type."""
    types = list(next(iter(rates.values()), ()))
    if not types:
        return None
    colors = set_colors(rates)
    figure = Figure(figsize=(WIDTH, 1.0 + 0.42 * len(types)), layout="constrained")
    axes = figure.subplots()
    for row in range(0, len(types), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=palette.GRID, alpha=0.45, lw=0)
    for (name, entries), shift in zip(rates.items(), _shifts(len(rates), 0.6), strict=True):
        draw_dots(axes, list(entries.values()), np.arange(len(types)) + shift, colors[name], _label(name))
    axes.set_yticks(range(len(types)), types)
    axes.set_ylim(len(types) - 0.5, -0.5)
    axes.set_title("selected share of the tokens, by problem type")
    _percent_axis(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(rates))
    return figure


def draw_clouds(words: Entry, clouds: Clouds) -> Figure | None:
    """Left the words that a set has more often than chance, right those that it has less often; a row a set."""
    colors = set_colors(words)
    rows = {}
    for name, entries in words.items():
        pictures = [
            clouds.draw(excesses(entries, 1), colors[name]),
            clouds.draw(excesses(entries, -1), palette.MUTED),
        ]
        if any(picture is not None for picture in pictures):
            rows[name] = pictures
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 0.1 + 2.45 * len(rows)), layout="constrained")
    all_axes = figure.subplots(len(rows), 2, squeeze=False)
    for axes_of_row, (name, pictures) in zip(all_axes, rows.items(), strict=True):
        titles = ("updated", "not updated") if name == UPDATED else (f"{name} selects", f"{name} leaves out")
        for axes, picture, title in zip(axes_of_row, pictures, titles, strict=True):
            axes.set_title(title)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color(palette.GRID)
            if picture is not None:
                axes.imshow(picture, interpolation="bilinear", aspect="auto")
    return figure


def draw_dots(axes: Axes, entries: Sequence[Entry], places: np.ndarray, color: str, label: str) -> None:
    """Values with their intervals, one above the other; what is not known is left out."""
    known = [(entry, place) for entry, place in zip(entries, places, strict=True) if entry["value"] is not None]
    values, lows, highs = _columns(entry for entry, _ in known)
    at, reach = [place for _, place in known], [values - lows, highs - values]
    axes.errorbar(values, at, xerr=reach, fmt="o", ms=4.5, color=color, elinewidth=1.8, label=label)


def set_colors(sets: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    fixed = {UPDATED: palette.INK, ALL: palette.BEFORE, LEFT_OUT: palette.MUTED}
    return palette.signal_colors([name for name in sets if name not in fixed]) | fixed


def _columns(entries: Iterable[Entry]) -> np.ndarray:
    """Values, lower and upper ends; where there is no interval, the value stands for its ends."""
    keys = ("value", "low", "high")
    rows = [[entry["value"] if entry[key] is None else entry[key] for key in keys] for entry in entries]
    return np.array(rows, dtype=float).reshape(-1, 3).T


def _label(name: str) -> str:
    return {UPDATED: "updated", ALL: "all tokens", LEFT_OUT: "not updated"}.get(name, name)


def _shifts(count: int, height: float) -> list[float]:
    return [height * (at - (count - 1) / 2) / max(count, 1) for at in range(count)]


def _percent_axis(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g}%")
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
