"""Statistics of a run: intervals of proportions, AUROC of scores, smoothing of curves. Pure functions."""

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray


def wilson_interval(successes: float | int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927, eq. 4); (0, 1) for n = 0.

    ``successes`` may be a sum of partial credits in [0, 1]; the interval is then wider than needed, never narrower,
    because a score in [0, 1] varies at most as much as a coin of the same mean.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / n
    scale = 1 + z * z / n
    center = (rate + z * z / (2 * n)) / scale
    half = z / scale * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # The ends at 0 and n successes are exactly 0 and 1; rounding would leave 1e-17.
    return max(0.0, center - half) if successes > 0 else 0.0, min(1.0, center + half) if successes < n else 1.0


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Probability that a positive outscores a negative, ties counted half; None where one class is absent.

    The Mann-Whitney form: (sum of the positives' mid-ranks - P(P+1)/2) / (P·N).
    """
    values, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    num_positive, num_negative = int(is_positive.sum()), int((~is_positive).sum())
    if num_positive == 0 or num_negative == 0:
        return None
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2
    excess = mid_ranks[inverse][is_positive].sum() - num_positive * (num_positive + 1) / 2
    return float(excess / (num_positive * num_negative))


def smooth(values: ArrayLike, window: int = 20) -> NDArray[np.float64]:
    """Mean over the last ``window`` values (fewer at the start): as long as its input, and never looks ahead."""
    series = np.asarray(values, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(series)])
    ends = np.arange(1, len(series) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / np.maximum(ends - starts, 1)
