"""Intervals by the bootstrap over questions: tokens of one question are alike, so they are drawn together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

DRAWS, CONFIDENCE, SEED = 1000, 0.95, 0
MAX_WEIGHTS = 4_000_000  # in memory at once, 8 bytes each


@dataclass(frozen=True)
class Intervals:
    """A statistic and the percentile interval of its resamples; NaN where it, or its spread, cannot be known."""

    value_K: Float[np.ndarray, " K"]
    low_K: Float[np.ndarray, " K"]
    high_K: Float[np.ndarray, " K"]


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "B C"]], Float[np.ndarray, "B K"]],
    sums_QC: Num[np.ndarray, "Q C"],
    seed: int = SEED,
    draws: int = DRAWS,
) -> Intervals:
    """``statistic`` of the sums over Q questions, with its interval: ``draws`` times, Q are drawn with return."""
    num_questions = len(sums_QC)
    sums_QC = sums_QC.astype(np.float64)
    rng = np.random.default_rng(seed)
    block = max(1, min(draws, MAX_WEIGHTS // max(1, num_questions)))
    resampled = []
    with np.errstate(invalid="ignore", divide="ignore"):
        value_K = statistic(sums_QC.sum(axis=0)[None])[0]
        for start in range(0, draws, block):
            size = min(block, draws - start)
            drawn = rng.integers(num_questions, size=(size, num_questions))
            drawn += num_questions * np.arange(size)[:, None]
            times_BQ = np.bincount(drawn.ravel(), minlength=size * num_questions).reshape(size, num_questions)
            resampled.append(statistic(times_BQ @ sums_QC))
    samples_BK = np.concatenate(resampled)
    known_K = np.isfinite(samples_BK).any(axis=0) & np.isfinite(value_K) & (num_questions > 1)
    low_K, high_K = np.full((2, len(value_K)), np.nan)
    margin = (1 - CONFIDENCE) / 2
    if known_K.any():
        ends = np.nanquantile(samples_BK[:, known_K], [margin, 1 - margin], axis=0)
        low_K[known_K], high_K[known_K] = ends
    return Intervals(value_K, low_K, high_K)


def ratios(
    numerators_QK: Num[np.ndarray, "Q K"], denominators_QK: Num[np.ndarray, "Q K"], seed: int = SEED, draws: int = DRAWS
) -> Intervals:
    """Ratios of two sums over questions. Those that fewer than two questions have a say in get no interval."""
    num = numerators_QK.shape[1]
    both_QC = np.concatenate([numerators_QK, denominators_QK], axis=1)
    found = bootstrap(lambda sums_BC: sums_BC[:, :num] / sums_BC[:, num:], both_QC, seed, draws)
    alone_K = (denominators_QK > 0).sum(axis=0) < 2
    return Intervals(found.value_K, np.where(alone_K, np.nan, found.low_K), np.where(alone_K, np.nan, found.high_K))
