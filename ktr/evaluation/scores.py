"""Accuracies of judged items: with intervals, by subtask, and as a benchmark's own script sums them up."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ktr.analysis.statistics import wilson_interval
from ktr.evaluation.rules.outcome import WITHOUT_REPLY, Judgement, Outcome

LEVELS = ("_easy", "_medium", "_hard")  # of VSI-Bench's relative directions


@dataclass(frozen=True)
class Scored:
    """A judged item. Items of one ``video`` are not independent; an item that ``is_regression`` has no accuracy."""

    id: str
    judgement: Judgement
    subtask: str = ""
    video: str = ""
    is_regression: bool = False


def summarize(scored: Sequence[Scored], metric: str = "micro") -> dict[str, Any]:
    """``accuracy`` with its 95 % interval over the ``n`` items with a reply, but for ``mra_n`` regressions: ``mra``.

    ``outcomes`` counts all items; those without a reply are ``left_out`` of n, and ``accuracy_of_all`` takes them as
    wrong. ``by_subtask`` has the same figures, ``macro`` is the mean over subtasks, ``official`` the benchmark's own.
    """
    subtasks = _by_subtask(scored)
    replied = [item for item in scored if item.judgement.outcome not in WITHOUT_REPLY]
    whole = _figures(scored)
    means = [fmean(scores) for scores in _scores(replied).values()]
    return whole | {
        "macro": fmean(means) if means else None,
        "official": {"metric": metric, "value": official(replied, metric)},
        "outcomes": {outcome.value: count for outcome, count in _outcomes(scored).items()},
        "by_subtask": {name: _figures(items) for name, items in subtasks.items()},
    }


def official(replied: Sequence[Scored], metric: str) -> float | None:
    """What a benchmark's script gives: the mean over items, over subtasks, or over those with an answer.

    ``vsi_bench`` is the mean over tasks, the three levels of relative direction being one. None without any item.
    """
    if metric == "answered":
        replied = [item for item in replied if item.judgement.prediction is not None]
    by_subtask = {name: fmean(scores) for name, scores in _scores(replied).items()}
    if not by_subtask:
        return None
    if metric == "macro":
        return fmean(by_subtask.values())
    if metric == "vsi_bench":
        tasks: dict[str, list[float]] = defaultdict(list)
        for name, mean in by_subtask.items():
            level = next((level for level in LEVELS if name.endswith(level)), "")
            tasks[name.removesuffix(level)].append(mean)
        return fmean(map(fmean, tasks.values()))
    return fmean(item.judgement.score for item in replied)


def _figures(scored: Sequence[Scored]) -> dict[str, Any]:
    replied = [item for item in scored if item.judgement.outcome not in WITHOUT_REPLY]
    left_out = len(scored) - len(replied)
    choices = [item.judgement.score for item in replied if not item.is_regression]
    numbers = [item.judgement.score for item in replied if item.is_regression]
    figures: dict[str, Any] = {"n": len(replied), "left_out": left_out}
    for name, scores in (("accuracy", choices), ("mra", numbers)):
        if scores or name == "accuracy":
            low, high = wilson_interval(min(sum(scores), len(scores)), len(scores))
            figures |= {name: fmean(scores) if scores else None, f"{name}_low": low, f"{name}_high": high}
    if numbers:
        figures["mra_n"] = len(numbers)
    if left_out:
        figures["accuracy_of_all"] = sum(item.judgement.score for item in scored) / len(scored)
    return figures


def _by_subtask(scored: Sequence[Scored]) -> Mapping[str, list[Scored]]:
    found: dict[str, list[Scored]] = defaultdict(list)
    for item in scored:
        found[item.subtask].append(item)
    return dict(sorted(found.items()))


def _scores(scored: Sequence[Scored]) -> Mapping[str, list[float]]:
    return {name: [item.judgement.score for item in items] for name, items in _by_subtask(scored).items()}


def _outcomes(scored: Sequence[Scored]) -> dict[Outcome, int]:
    counts = Counter(item.judgement.outcome for item in scored)
    return {outcome: counts[outcome] for outcome in Outcome}
