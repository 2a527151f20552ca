"""Intervals, AUROC and smoothing against known values."""

import math

import numpy as np
import pytest

from ktr.analysis.statistics import auroc, smooth, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # statsmodels.stats.proportion.proportion_confint(…, method="wilson")
    [(8, 10, 0.490162, 0.943318), (0, 10, 0.0, 0.277533), (50, 100, 0.403832, 0.596168), (600, 600, 0.993638, 1.0)],
)
def test_wilson_interval_has_the_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-6)


def test_wilson_interval_ends_at_exactly_0_and_1():
    assert wilson_interval(0, 40)[0] == 0.0 and wilson_interval(40, 40)[1] == 1.0


def test_wilson_interval_of_nothing_says_nothing_and_of_nonsense_raises():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson_interval(3, 2)


def test_auroc_is_the_share_of_pairs_won_with_ties_counted_half():
    generator = np.random.default_rng(0)
    scores, positive = generator.integers(0, 6, 60), generator.random(60) < 0.3
    won = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(won), abs=1e-12)
    assert auroc([3, 2, 1], [True, False, False]) == 1.0
    assert auroc([1, 1], [True, False]) == 0.5


def test_auroc_without_both_classes_is_none():
    assert auroc([1.0, 2.0], [True, True]) is None
    assert auroc([], []) is None


def test_smoothing_averages_the_last_values_and_never_looks_ahead():
    assert smooth([1, 2, 3, 4, 5], window=2).tolist() == [1.0, 1.5, 2.5, 3.5, 4.5]
    assert smooth([1, 2], window=20).tolist() == [1.0, 1.5]
    changed_later = smooth([1, 2, 3, 100], window=3)[:3]
    assert changed_later.tolist() == smooth([1, 2, 3, 4], window=3)[:3].tolist()


def test_a_value_that_is_no_number_is_in_the_means_of_its_windows_alone():
    for hole in (math.nan, math.inf, 1e300):
        smoothed = smooth([1, 2, hole, 3, 5, 7], window=2)
        assert [smoothed[at] for at in (0, 1, 4, 5)] == [1.0, 1.5, 4.0, 6.0]
        assert not smoothed[2] <= 1e200 and not smoothed[3] <= 1e200
    assert smooth([], window=3).tolist() == []
