"""What the signals select, by part of speech, by role, by position, by problem type and by word; and how they overlap.

Each share comes with the interval of a bootstrap over questions (``bootstrap.py``); None stands for what is not known.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from ktr.analysis.words.bootstrap import SEED, Intervals, bootstrap, ratios
from ktr.analysis.words.token_table import TOKEN_CLASSES, UPDATED, TokenTable

# Video-KTR (arXiv 2601.19686), from the figures of its repository: of the tokens that a signal selects.
PUBLISHED = {
    "visual": {"NOUN": 0.2483, "VERB": 0.1674, "ADJ": 0.0820, "ADV": 0.0559, "PRON": 0.0842},
    "entropy": {"NOUN": 0.2039, "VERB": 0.1609, "ADJ": 0.0852, "ADV": 0.0882, "PRON": 0.0990},
    "temporal": {"NOUN": 0.1832, "VERB": 0.2116, "ADJ": 0.0818, "ADV": 0.0744, "PRON": 0.1104},
}
NUM_RELATIVE_BINS, MAX_ABSOLUTE_BINS = 10, 16
MAX_WORDS = 150  # of each signal, those selected most and least for how often they occur

Entry = dict[str, Any]


def word_statistics(table: TokenTable, seed: int = SEED) -> Entry:
    """All of it, as it stands in words.json."""
    selected = {name: chosen_T for name, chosen_T in table.sets().items() if name in (*table.signals, UPDATED)}
    tenths_T = NUM_RELATIVE_BINS * table.position_T // np.maximum(table.length_T, 1)
    step = _bin_width(int(table.length_T.max(initial=1)))
    steps = range(-(-int(table.length_T.max(initial=1)) // step))
    return {
        "parts_of_speech": _composition(table, table.class_T, TOKEN_CLASSES, seed),
        "roles": _composition(table, table.role_T, table.roles, seed) if table.roles else {},
        "overlap": overlap(table, seed),
        "position": {
            "relative": _rates(
                table, selected, tenths_T, [f"{10 * at}–{10 * at + 10} %" for at in range(NUM_RELATIVE_BINS)], seed
            ),
            "absolute": _rates(
                table,
                selected,
                table.position_T // step,
                [f"{step * at}–{step * (at + 1) - 1}" if step > 1 else str(at) for at in steps],
                seed,
            ),
        },
        "problem_type": _rates(table, selected, table.type_T, table.problem_types, seed),
        "words": {name: _words(table, chosen_T) for name, chosen_T in selected.items()},
    }


def overlap(table: TokenTable, seed: int = SEED) -> Entry:
    """``sets``: tokens that exactly these signals select; ``jaccard`` and ``rank_correlation`` (Spearman) by pair.

    Ranks are over all tokens that both signals scored.
    """
    bits, counts = np.unique(table.selected_T, return_counts=True)
    pairs = list(combinations(table.signals, 2))
    exact = [
        {"signals": [name for at, name in enumerate(table.signals) if bit >> at & 1], "count": int(count)}
        for bit, count in zip(bits, counts, strict=True)
    ]
    sets = {name: table.selects(name) for name in table.signals}
    both_QP = _by_question(table, [sets[a] & sets[b] for a, b in pairs])
    either_QP = _by_question(table, [sets[a] | sets[b] for a, b in pairs])
    names = [f"{a}_{b}" for a, b in pairs]
    correlations = {name: _spearman(table, *pair, seed) for name, pair in zip(names, pairs, strict=True)}
    return {
        "sets": sorted(exact, key=lambda entry: -entry["count"]),
        "jaccard": _entries(ratios(both_QP, either_QP, seed), names, either_QP) if pairs else {},
        "rank_correlation": {name: entry for name, entry in correlations.items() if entry},
    }


def _composition(table: TokenTable, code_T: Int[np.ndarray, " T"], names: Sequence[str], seed: int) -> Entry:
    """Of each set of tokens, the share of each class; classes that no token has are left out."""
    found = {}
    for name, chosen_T in table.sets().items():
        chosen_T = chosen_T & (code_T >= 0)
        counts_QK = _counts(table, code_T, len(names), chosen_T)
        if counts_QK.any():
            all_QK = np.broadcast_to(counts_QK.sum(axis=1, keepdims=True), counts_QK.shape)
            found[name] = _entries(ratios(counts_QK, all_QK, seed), names, counts_QK)
    present = [kind for kind in names if any(entries[kind]["count"] for entries in found.values())]
    return {name: {kind: entries[kind] for kind in present} for name, entries in found.items()}


def _rates(
    table: TokenTable,
    selected: dict[str, Bool[np.ndarray, " T"]],
    code_T: Int[np.ndarray, " T"],
    names: Sequence[str],
    seed: int,
) -> Entry:
    """Of the tokens of each class, the share that is selected; ``count`` is of all tokens of the class."""
    all_QK = _counts(table, code_T, len(names), np.ones_like(table.updated_T))
    return {
        name: _entries(ratios(_counts(table, code_T, len(names), chosen_T), all_QK, seed), names, all_QK)
        for name, chosen_T in selected.items()
    }


def _spearman(table: TokenTable, first: str, second: str, seed: int) -> Entry | None:
    from scipy.stats import rankdata  # not above: it takes a second to load

    scores_2T = table.scores_ST[[table.signals.index(first), table.signals.index(second)]]
    scored_T = np.isfinite(scores_2T).all(axis=0)
    num_tokens = int(scored_T.sum())
    if not num_tokens:
        return None
    x, y = rankdata(scores_2T[:, scored_T], axis=1) / num_tokens - 0.5
    question = table.question_T[scored_T]
    moments = (np.ones_like(x), x, y, x * x, y * y, x * y)
    sums_QC = np.stack([np.bincount(question, part, table.num_questions) for part in moments], axis=1)
    return _entries(bootstrap(_correlation, sums_QC, seed), [""], sums_QC[:, :1])[""]


def _correlation(sums_BC: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = sums_BC.T
    return ((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))[:, None]


def _words(table: TokenTable, chosen_T: Bool[np.ndarray, " T"]) -> list[Entry]:
    """Of each word how many ``tokens`` belong to it and how many of them are ``selected``, sorted by ``excess``.

    ``excess`` is by how many tokens it is selected more than a word whose tokens are selected as often as those of all
    words: of tokens, and not of occurrences, since a word of many tokens is sooner hit by chance.
    """
    size = len(table.vocabulary)
    held_V = np.bincount(table.word_T[table.word_T >= 0], minlength=size)
    chosen_V = np.bincount(table.word_T[(table.word_T >= 0) & chosen_T], minlength=size)
    excess_V = chosen_V - held_V * (chosen_V.sum() / max(1, held_V.sum()))
    order = np.argsort(-excess_V, kind="stable")
    if len(order) > 2 * MAX_WORDS:
        order = np.concatenate([order[:MAX_WORDS], order[-MAX_WORDS:]])
    return [
        {
            "word": table.vocabulary[at],
            "tokens": int(held_V[at]),
            "selected": int(chosen_V[at]),
            "excess": round(float(excess_V[at]), 3),
        }
        for at in order
    ]


def _counts(
    table: TokenTable, code_T: Int[np.ndarray, " T"], size: int, chosen_T: Bool[np.ndarray, " T"]
) -> Int[np.ndarray, "Q K"]:
    cell_T = table.question_T[chosen_T].astype(np.int64) * size + code_T[chosen_T]
    return np.bincount(cell_T, minlength=table.num_questions * size).reshape(table.num_questions, size)


def _by_question(table: TokenTable, chosen: Sequence[Bool[np.ndarray, " T"]]) -> Int[np.ndarray, "Q P"]:
    counts = [np.bincount(table.question_T[chosen_T], minlength=table.num_questions) for chosen_T in chosen]
    return np.stack(counts, axis=1) if counts else np.zeros((table.num_questions, 0), dtype=np.int64)


def _entries(found: Intervals, names: Sequence[str], counts_QK: np.ndarray) -> dict[str, Entry]:
    """By name: ``value``, ``low`` and ``high`` (None where unknown), and ``count``, the sum of ``counts_QK``."""
    totals = counts_QK.sum(axis=0)
    columns = zip(names, found.value_K, found.low_K, found.high_K, totals, strict=True)
    return {
        name: {"value": _known(value), "low": _known(low), "high": _known(high), "count": int(total)}
        for name, value, low, high, total in columns
    }


def _known(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _bin_width(longest: int) -> int:
    """The least of 1, 2, 5, 10, 20, 50 … by which ``longest`` tokens are at most ``MAX_ABSOLUTE_BINS`` bins."""
    steps = (digit * 10**power for power in range(10) for digit in (1, 2, 5))
    return next(step for step in steps if longest <= step * MAX_ABSOLUTE_BINS)
