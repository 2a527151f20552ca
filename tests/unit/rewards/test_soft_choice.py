"""Soft rewards of questions with several right answers."""

import pytest

from ktr.rewards.accuracy import Accuracy
from ktr.rewards.soft_choice import soft_choice


@pytest.mark.parametrize(
    ("answer", "truth", "reward"),
    [
        ("A,C", "A,C", 1.0),
        ("C , A", "A,C", 1.0),
        ("A", "A,C", 0.5),
        ("A,A", "A,C", 0.5),
        ("B", "A,B,D", 1 / 3),
        ("A,B", "A,C", 0.0),
        ("A,B,C", "A,C", 0.0),
        ("A", "A", 1.0),
        ("B", "A", 0.0),
        (",", "A", 0.0),
        ("", "A", 0.0),
    ],
)
def test_a_part_of_the_truth_earns_its_share_and_one_wrong_option_nothing(answer, truth, reward):
    assert soft_choice(answer, truth) == reward


def test_it_is_the_rule_of_multiple_choice_and_of_nothing_else(make_group):
    texts = ("<answer>C</answer>", "<answer>A,C</answer>", "<answer>C, D</answer>", "none")
    soft = Accuracy(multiple_choice="soft")
    assert soft(make_group(*texts, answer="A,C")).tolist() == [0.5, 1.0, 0.0, 0.0]
    assert Accuracy()(make_group(*texts, answer="A,C")).tolist() == [0.0, 1.0, 0.0, 0.0]
    for problem_type in ("free-form", "OCR"):
        group = make_group(*texts, answer="A,C", problem_type=problem_type)
        assert soft(group).tolist() == Accuracy()(group).tolist()
