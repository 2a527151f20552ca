"""How well each signal finds the tokens that it should: the ``attribution`` entry of summary.json."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from ktr.analysis.statistics import auroc
from ktr.record.token_records import Record

# A word about the order or the motion of things also hangs on seeing the things: both kinds are visual.
# Words of UNSETTLED roles depend on the video in a way that the text doesn't settle: visual and temporal omit them.
UNSETTLED = ("decision",)
# A signal of another name is asked for what any of the three should find.
POSITIVE_ROLES = {"visual": ("appearance", "order_motion"), "temporal": ("order_motion",), "entropy": ("decision",)}


def attribution_summary(records: Sequence[Record]) -> dict[str, Any]:
    """AUROC of each signal against the ground truth, selected fractions, and overlaps, over all tokens of ``records``.

    - ``{signal}_auroc``: positives are ``positive_roles(signal)``, negatives all other tokens but the ``UNSETTLED``.
    - ``temporal_specificity``: temporal scores of order and motion words against those of appearance words only.
    - ``selected_fraction[signal]``, ``union_fraction``: share of the tokens that a signal, or any, selects.
    - ``overlap["a_b"]``: Jaccard index of two selected sets (signals in the order of their names).

    AUROCs need records with ``roles``; they are None where a class is absent, and left out without any roles.
    """
    summary: dict[str, Any] = {"num_completions": len(records), "num_tokens": sum(len(r["tokens"]) for r in records)}
    summary |= _aurocs([record for record in records if "roles" in record])
    return summary | selection_overlap(records)


def positive_roles(signal: str) -> tuple[str, ...]:
    """The roles of the tokens that a signal should find."""
    every = dict.fromkeys(role for roles in POSITIVE_ROLES.values() for role in roles)
    return POSITIVE_ROLES.get(signal, tuple(every))


def selection_overlap(records: Sequence[Record]) -> dict[str, Any]:
    """Selected fraction of each signal and of their union, and the Jaccard index of each pair of sets."""
    num_tokens = sum(len(record["tokens"]) for record in records)
    signals = sorted({name for record in records for name in record["selected"]})
    sets = {signal: _selected_tokens(records, signal) for signal in signals}
    if not sets or not num_tokens:
        return {}
    overlap = {}
    for first, second in combinations(signals, 2):
        either = sets[first] | sets[second]
        overlap[f"{first}_{second}"] = len(sets[first] & sets[second]) / len(either) if either else 0.0
    return {
        "selected_fraction": {signal: len(chosen) / num_tokens for signal, chosen in sets.items()},
        "union_fraction": len(set[tuple[int, int]]().union(*sets.values())) / num_tokens,
        "overlap": overlap,
    }


def pair_names(signals: Iterable[str], joint: str) -> dict[str, str]:
    """What to call each pair of signals in a text, by its key ``a_b``: names may hold underscores of their own."""
    return {f"{first}_{second}": f"{first}{joint}{second}" for first, second in combinations(signals, 2)}


def exclusive_fractions(records: Sequence[Record]) -> dict[tuple[str, ...], float]:
    """Share of all tokens that exactly these signals select, for each combination that occurs: the bars of an UpSet."""
    num_tokens = sum(len(record["tokens"]) for record in records)
    counts: dict[tuple[str, ...], int] = {}
    for record in records:
        chosen_by: dict[int, list[str]] = {}
        for signal in sorted(record["selected"]):
            for position in record["selected"][signal]:
                chosen_by.setdefault(position, []).append(signal)
        for signals in chosen_by.values():
            counts[tuple(signals)] = counts.get(tuple(signals), 0) + 1
    return {signals: count / num_tokens for signals, count in sorted(counts.items(), key=lambda item: -item[1])}


def _selected_tokens(records: Sequence[Record], signal: str) -> set[tuple[int, int]]:
    return {(row, position) for row, record in enumerate(records) for position in record["selected"].get(signal, ())}


def _aurocs(records: Sequence[Record]) -> dict[str, float | None]:
    results: dict[str, float | None] = {}
    others = sorted({name for record in records for name in record["scores"]} - POSITIVE_ROLES.keys())
    for signal in (*POSITIVE_ROLES, *others):
        positives = positive_roles(signal)
        left_out = [role for role in UNSETTLED if role not in positives]
        scored = [(score, role) for score, role in _scored_tokens(records, signal) if role not in left_out]
        if not scored:
            continue
        results[f"{signal}_auroc"] = _auroc_of_roles(scored, positives)
        if signal == "temporal":
            of_content = [(score, role) for score, role in scored if role in POSITIVE_ROLES["visual"]]
            results["temporal_specificity"] = _auroc_of_roles(of_content, positives)
    return results


def _scored_tokens(records: Sequence[Record], signal: str) -> list[tuple[float, str]]:
    """(score, role) of every token of the records that this signal scored."""
    scored = [record for record in records if signal in record["scores"]]
    return [pair for record in scored for pair in zip(record["scores"][signal], record["roles"], strict=True)]


def _auroc_of_roles(scored: Sequence[tuple[float, str]], positives: Sequence[str]) -> float | None:
    return auroc([score for score, _ in scored], [role in positives for _, role in scored])
