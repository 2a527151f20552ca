"""Two results, item by item."""

import pytest

from ktr.errors import InputError
from ktr.evaluation.compare import compare, mcnemar, over_videos
from ktr.evaluation.rules.outcome import Judgement, Outcome
from ktr.evaluation.scores import Scored


def result(scores: list[float], per_video: int = 1, first: int = 0) -> list[Scored]:
    outcomes = [Outcome.RIGHT if score == 1 else Outcome.WRONG for score in scores]
    return [
        Scored(str(first + n), Judgement("A", outcome, score), "", f"v{(first + n) // per_video}")
        for n, (score, outcome) in enumerate(zip(scores, outcomes))
    ]


def test_items_that_changed_are_counted_either_way():
    compared = compare(result([1, 0, 0, 1, 0.5]), result([0, 1, 1, 1, 0.5]), draws=200)
    assert (compared.n, compared.gained, compared.lost, compared.num_videos) == (5, 2, 1, 5)
    assert compared.difference == pytest.approx(0.2) and compared.low <= 0.2 <= compared.high
    assert compared.p == mcnemar(2, 1) == pytest.approx(1.0)


def test_mcnemar_is_the_binomial_of_the_changes():
    assert mcnemar(0, 0) == 1 and mcnemar(10, 0) == pytest.approx(2 / 2**10) and mcnemar(3, 9) == mcnemar(9, 3)


def test_an_interval_over_videos_is_wider_than_one_over_their_questions():
    before, after = [0.0] * 60, [float(n // 6 % 2) for n in range(60)]
    shared, alone = (compare(result(before, k), result(after, k), draws=500) for k in (6, 1))
    assert shared.num_videos == 10 and shared.high - shared.low > 1.5 * (alone.high - alone.low)
    assert over_videos([[0.5]], 10, 0) == (0.5, 0.5)
    assert compare(result(before), result(after), draws=50) == compare(result(before), result(after), draws=50)


def test_one_video_says_nothing_of_others():
    compared = compare(result([0, 1, 0], 3), result([1, 1, 1], 3))
    assert (compared.num_videos, compared.low, compared.high) == (1, -1.0, 1.0)


def test_only_common_items_are_compared_and_the_rest_is_counted():
    compared = compare(result([1, 1, 1]), result([1, 1], first=2), draws=10)
    assert (compared.n, compared.only_first, compared.only_second) == (1, 2, 1)
    with pytest.raises(InputError, match="no item in common"):
        compare(result([1]), result([1], first=5))
