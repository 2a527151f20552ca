"""Two results on the same items: McNemar's exact test, and an interval of the difference over videos."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ktr.errors import InputError
from ktr.evaluation.scores import Scored


@dataclass(frozen=True)
class Compared:
    """What the second result has over the first on the ``n`` items that both have.

    ``gained`` and ``lost`` count items that only one has right, ``p`` is McNemar's. ``difference`` is that of the mean
    scores, ``low`` to ``high`` its 95 % interval when videos, ``num_videos`` of them, are drawn anew; one video says
    nothing of others, and it is from -1 to 1. ``only_first`` and ``only_second`` count items that the other lacks.
    """

    n: int
    num_videos: int
    gained: int
    lost: int
    p: float
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int


def compare(first: Sequence[Scored], second: Sequence[Scored], draws: int = 10_000, seed: int = 0) -> Compared:
    """Pair the items of two results by their ids. Raises ``InputError`` where they have none in common."""
    before, after = ({item.id: item for item in result} for result in (first, second))
    common = [name for name in before if name in after]
    if not common:
        raise InputError("the two results have no item in common: give two of one benchmark, with the same ids")
    changes: dict[str, list[float]] = defaultdict(list)
    for name in common:
        changes[before[name].video or name].append(after[name].judgement.score - before[name].judgement.score)
    right = [(before[name].judgement.score == 1, after[name].judgement.score == 1) for name in common]
    gained, lost = right.count((False, True)), right.count((True, False))
    low, high = over_videos(list(changes.values()), draws, seed) if len(changes) > 1 else (-1.0, 1.0)
    difference = sum(map(sum, changes.values())) / len(common)
    alone = len(before) - len(common), len(after) - len(common)
    return Compared(len(common), len(changes), gained, lost, mcnemar(gained, lost), difference, low, high, *alone)


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p of McNemar's exact test: items that changed went either way with equal chance (McNemar 1947)."""
    from scipy.stats import binomtest  # not above: it takes a second to load

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def over_videos(groups: Sequence[Sequence[float]], draws: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of the mean of all values when whole groups are drawn with replacement (percentile bootstrap).

    Questions about one video are right or wrong together, so that an interval over questions would be too narrow.
    """
    sums = np.array([sum(group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        chosen = generator.integers(len(groups), size=len(groups))
        means[draw] = sums[chosen].sum() / sizes[chosen].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
