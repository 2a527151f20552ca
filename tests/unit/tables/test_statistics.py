"""Student's intervals of means and of paired differences against known values."""

from math import sqrt
from statistics import stdev

import pytest

from ktr.analysis.statistics import mean_interval, paired_difference


@pytest.mark.parametrize(
    ("df", "t"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227), (200, 1.97190)]
)
def test_half_an_interval_is_the_printed_quantile_of_t_in_standard_errors(df: int, t: float):
    values = [float(value) for value in range(df + 1)]
    standard_error = stdev(values) / sqrt(df + 1)
    assert mean_interval(values).half_width == pytest.approx(t * standard_error, rel=1e-5)


def test_a_surer_interval_is_wider():
    assert mean_interval([1.0, 2.0, 6.0], confidence=0.99).half_width == pytest.approx(9.92484 * sqrt(7 / 3), rel=1e-5)


def test_the_interval_of_three_values_is_t_times_the_standard_error():
    interval = mean_interval([1.0, 2.0, 6.0])
    assert interval.mean == 3.0 and interval.n == 3
    assert interval.half_width == pytest.approx(4.302653 * sqrt(7 / 3), abs=1e-5)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert mean_interval([0.4]).half_width is None
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_a_difference_is_paired_by_seed_and_takes_the_seeds_in_common_alone():
    difference = paired_difference({0: 0.5, 1: 0.7, 9: 0.0}, {1: 0.5, 0: 0.4, 2: 1.0})
    assert difference is not None and difference.n == 2
    assert difference.mean == pytest.approx(0.15) and difference.half_width == pytest.approx(12.7062 * 0.05, abs=1e-5)
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_pairing_narrows_the_interval_where_seeds_move_rows_together():
    baseline = {0: 0.50, 1: 0.60, 2: 0.70}
    values = {0: 0.52, 1: 0.61, 2: 0.73}
    paired = paired_difference(values, baseline)
    spreads = [mean_interval(list(row.values())).half_width or 0 for row in (values, baseline)]
    assert paired is not None and paired.half_width is not None
    assert paired.half_width < 0.15 * sqrt(spreads[0] ** 2 + spreads[1] ** 2)
