"""Statistics of runs: intervals of proportions and of means, AUROC of scores, smoothing of curves. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import atan, cos, fsum, pi, sin, sqrt
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


@dataclass(frozen=True)
class MeanInterval:
    """A mean of ``n`` values and half the width of its interval; None where one value has no spread to judge by."""

    mean: float
    half_width: float | None
    n: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> MeanInterval:
    """Mean of ``values`` and Student's interval, t(n - 1) · s / √n (Student 1908). Raises ValueError for no value."""
    n = len(values)
    if n == 0:
        raise ValueError("a mean of no values")
    if n == 1:
        return MeanInterval(values[0], None, 1)
    mean = fsum(values) / n
    deviation = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1))
    return MeanInterval(mean, t_quantile(n - 1, confidence) * deviation / sqrt(n), n)


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> MeanInterval | None:
    """Mean of ``values - baseline`` over the keys (seeds) in common, with Student's interval; None without any."""
    seeds = sorted(values.keys() & baseline.keys())
    return mean_interval([values[seed] - baseline[seed] for seed in seeds], confidence) if seeds else None


def t_quantile(df: int, confidence: float = 0.95) -> float:
    """The t with P(|T| ≤ t) = ``confidence`` for Student's T of ``df`` degrees of freedom: 4.303 for 2 and 0.95."""
    low, high = 0.0, 1.0
    while _t_within(high, df) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, df) < confidence else (low, middle)
    return high


def _t_within(t: float, df: int) -> float:
    """P(|T| ≤ t): the finite sums of Abramowitz and Stegun, 26.7.3 (odd ``df``) and 26.7.4 (even)."""
    angle = atan(t / sqrt(df))
    odd = df % 2
    term, total = (cos(angle), 0.0) if odd else (1.0, 0.0)
    for at in range(1 + odd, df, 2):
        total += term
        term *= cos(angle) ** 2 * at / (at + 1)
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


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
