"""Statistics of runs: intervals of proportions and of means, AUROC of scores, smoothing of curves. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit


def wilson_interval(successes: float | int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927, eq. 4); (0, 1) for n = 0.

    ``successes`` may be a sum of partial credits in [0, 1]; the interval is then wider than needed, never narrower,
    because a score in [0, 1] varies at most as much as a coin of the same mean.
    """
    # SciPy's binomtest has this interval, but for whole numbers of successes alone.
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
    return MeanInterval(fmean(values), float(stdtrit(n - 1, 0.5 + confidence / 2)) * stdev(values) / sqrt(n), n)


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> MeanInterval | None:
    """Mean of ``values - baseline`` over the keys (seeds) in common, with Student's interval; None without any."""
    seeds = sorted(values.keys() & baseline.keys())
    return mean_interval([values[seed] - baseline[seed] for seed in seeds], confidence) if seeds else None


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Probability that a positive outscores a negative, ties counted half; None where one class is absent."""
    from scipy.stats import mannwhitneyu  # not above: it takes a second to load, and tables do without it

    values, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    num_pairs = int(is_positive.sum()) * int((~is_positive).sum())
    if num_pairs == 0:
        return None
    won = mannwhitneyu(values[is_positive], values[~is_positive], method="asymptotic").statistic
    return float(won / num_pairs)


def smooth(values: ArrayLike, window: int = 20) -> NDArray[np.float64]:
    """Mean over the last ``window`` values (fewer at the start): as long as its input, and never looks ahead.

    NaN, and infinity, are in the means of their windows and in no other.
    """
    series = np.asarray(values, dtype=np.float64)
    windows = sliding_window_view(np.concatenate([np.zeros(window), series]), window)[1:]
    return windows.sum(axis=1) / np.minimum(np.arange(1, len(series) + 1), window)
