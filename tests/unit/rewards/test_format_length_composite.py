"""Format, length and the weighted sum of rewards."""

import pytest
import torch

from ktr.errors import ConfigError, NonFiniteError
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import CompositeReward
from ktr.rewards.format import Format, ReleasedFormat
from ktr.rewards.length import Length


@pytest.mark.parametrize(
    ("text", "reward", "released"),
    [
        ("<think>a</think><answer>b</answer>", 1.0, 1.0),
        ("<think> a\nb </think> \n <answer> c </answer>", 1.0, 1.0),
        ("<think>1 < 2 and <b>c</b></think><answer>红</answer>", 1.0, 1.0),
        (" <think>a</think><answer>b</answer>\n", 1.0, 0.0),
        ("<think></think><answer>b</answer>", 0.0, 1.0),
        ("<think>a</think><answer> \n</answer>", 0.0, 1.0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0.0, 1.0),
        ("<think>a</think><think>b</think><answer>c</answer>", 0.0, 1.0),
        ("<think>a<think>b</think><answer>c</answer>", 0.0, 1.0),
        ("<think><answer>a</answer></think><answer>b</answer>", 0.0, 1.0),
        ("<think>a</think><answer><answer>b</answer></answer>", 0.0, 1.0),
        ("<think>a</think></think><answer>b</answer>", 0.0, 1.0),
        ("so <think>a</think><answer>b</answer>", 0.0, 0.0),
        ("<think>a</think> and <answer>b</answer>", 0.0, 0.0),
        ("<answer>b</answer><think>a</think>", 0.0, 0.0),
        ("<answer>b</answer>", 0.0, 0.0),
        ("<think>a</think><answer>b", 0.0, 0.0),
        ("<think>a<answer>b</answer>", 0.0, 0.0),
        ("<think>" + "a " * 5000, 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_format_is_a_match_of_the_whole_text(text, reward, released, make_group):
    assert Format()(make_group(text)).tolist() == [reward]
    assert ReleasedFormat()(make_group(text)).tolist() == [released]


RIGHT, WRONG = "<answer>B</answer>", "<answer>A</answer>"


def test_length_rewards_right_answers_of_moderate_length_bounds_included(make_group):
    lengths = [319, 320, 512, 513, 400]
    group = make_group(RIGHT, RIGHT, RIGHT, RIGHT, WRONG, lengths=lengths)
    torch.testing.assert_close(Length(Accuracy())(group), torch.tensor([0.0, 0.2, 0.2, 0.0, 0.0]))


def test_length_needs_more_than_one_right_answer(make_group):
    group = make_group(RIGHT, WRONG, lengths=[400, 400])
    assert Length(Accuracy())(group).tolist() == [0.0, 0.0]
    # The second right answer need not be of moderate length itself.
    group = make_group(RIGHT, RIGHT, lengths=[400, 5])
    torch.testing.assert_close(Length(Accuracy())(group), torch.tensor([0.2, 0.0]))


def test_length_counts_the_partly_right(make_group):
    group = make_group(
        "<answer>1</answer>", "<answer>3</answer>", answer="10", problem_type="regression", lengths=[3, 3]
    )
    length = Length(Accuracy(), minimum=1, maximum=4, bonus=0.5)
    assert length(group).tolist() == [0.0, 0.0]  # 0.1 is not more than 0.1
    group = make_group(
        "<answer>2</answer>", "<answer>3</answer>", answer="10", problem_type="regression", lengths=[3, 3]
    )
    assert length(group).tolist() == [0.5, 0.5]


def test_the_sum_is_weighted_and_the_parts_are_not(make_group):
    group = make_group(f"<think>so</think>{RIGHT}", RIGHT, WRONG)
    rewards = {"accuracy": Accuracy(), "format": Format(), "length": None}
    parts, rewards_G = CompositeReward(rewards)(group)
    assert {name: part.tolist() for name, part in parts.items()} == {"accuracy": [1, 1, 0], "format": [1, 0, 0]}
    assert rewards_G.tolist() == [2.0, 1.0, 0.0]
    parts, rewards_G = CompositeReward(rewards, weights={"format": 0.25})(group)
    assert parts["format"].tolist() == [1, 0, 0]
    assert rewards_G.tolist() == [1.25, 1.0, 0.0]


def test_weights_of_unknown_rewards_and_no_rewards_at_all_are_refused():
    with pytest.raises(ConfigError, match="formt"):
        CompositeReward({"format": Format()}, weights={"formt": 1.0})
    with pytest.raises(ConfigError, match="at least one"):
        CompositeReward({"format": None})
    with pytest.raises(ConfigError, match=r"minimum=5.*maximum=4"):
        Length(Accuracy(), minimum=5, maximum=4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_is_named_with_its_question(value, make_group):
    broken = lambda group: torch.tensor([1.0, value])  # noqa: E731
    composite = CompositeReward({"format": Format(), "broken": broken})
    with pytest.raises(NonFiniteError, match=r"reward broken of question \S+ is \[1.0, (nan|inf)\]"):
        composite(make_group("a", "b"))


def test_a_negative_weight_is_a_punishment(make_group):
    _, rewards_G = CompositeReward({"format": Format()}, {"format": -2.0})(
        make_group("<think>a</think><answer>b</answer>")
    )
    assert rewards_G.tolist() == [-2.0]
