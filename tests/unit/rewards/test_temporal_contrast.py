"""The temporal contrast of T-GRPO, against completions about the shuffled video."""

from dataclasses import replace

import pytest
import torch

from ktr.algorithm.advantage import GroupAdvantage
from ktr.errors import ConfigError
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import CompositeReward
from ktr.rewards.format import Format
from ktr.rewards.temporal_contrast import TemporalContrast

RIGHT, WRONG = "<answer>B</answer>", "<answer>A</answer>"


@pytest.fixture
def contrasted(make_group):
    """A group of right and wrong answers, given as a string of + and -, and another about the shuffled video."""

    def make(ordered: str, shuffled: str, **question):
        texts = {"+": RIGHT, "-": WRONG}
        group = make_group(*(texts[sign] for sign in ordered), **question)
        contrast = make_group(*(texts[sign] for sign in shuffled)) if shuffled else None
        return replace(group, contrast=contrast.completions if contrast else ())

    return make


@pytest.mark.parametrize(
    ("ordered", "shuffled", "mu", "bonuses"),
    [
        ("++-+", "+-", 1.0, [0.3, 0.3, 0.0, 0.3]),  # .75 ≥ .5
        ("+---", "++", 1.0, [0.0, 0.0, 0.0, 0.0]),  # .25 < 1
        ("++--", "+-", 1.0, [0.3, 0.3, 0.0, 0.0]),  # a tie is enough
        ("+++-", "++", 1.0, [0.0, 0.0, 0.0, 0.0]),  # .75 < 1
        ("+++-", "++", 0.7, [0.3, 0.3, 0.3, 0.0]),  # .75 ≥ .7
        ("----", "--", 1.0, [0.0, 0.0, 0.0, 0.0]),  # a tie at 0 helps no wrong answer
    ],
)
def test_right_answers_earn_the_bonus_where_order_helps(ordered, shuffled, mu, bonuses, contrasted):
    reward = TemporalContrast(Accuracy(), mu=mu)
    torch.testing.assert_close(reward(contrasted(ordered, shuffled)), torch.tensor(bonuses))


def test_without_rollouts_about_a_shuffled_video_there_is_no_bonus(contrasted):
    assert TemporalContrast(Accuracy())(contrasted("+-", "")).tolist() == [0.0, 0.0]


def test_the_threshold_is_on_the_accuracy_of_each_answer(make_group):
    texts = ("<answer>1</answer>", "<answer>2</answer>", "<answer>10</answer>")  # accuracies .1, .2 and 1
    group = make_group(*texts, answer="10", problem_type="regression")
    group = replace(group, contrast=group.completions[:1])
    torch.testing.assert_close(TemporalContrast(Accuracy())(group), torch.tensor([0.0, 0.3, 0.3]))
    torch.testing.assert_close(TemporalContrast(Accuracy(), threshold=0.5)(group), torch.tensor([0.0, 0.0, 0.3]))


def test_with_binary_accuracy_alone_the_normalisation_cancels_the_bonus(contrasted):
    group, accuracy, advantage = contrasted("++-+-", "+-"), Accuracy(), GroupAdvantage(eps=0.0)
    _, plain_G = CompositeReward({"accuracy": accuracy})(group)
    _, contrast_G = CompositeReward({"accuracy": accuracy, "contrast": TemporalContrast(accuracy)})(group)
    assert not torch.equal(plain_G, contrast_G)
    torch.testing.assert_close(advantage(plain_G), advantage(contrast_G))


def test_with_another_reward_beside_it_the_bonus_acts(make_group):
    group = make_group(f"<think>so</think>{RIGHT}", RIGHT, f"<think>so</think>{WRONG}")
    group = replace(group, contrast=make_group(WRONG).completions)
    accuracy, advantage = Accuracy(), GroupAdvantage(eps=0.0)
    parts = {"accuracy": accuracy, "format": Format()}
    plain_G = advantage(CompositeReward(parts)(group)[1])
    contrast_G = advantage(CompositeReward({**parts, "contrast": TemporalContrast(accuracy)})(group)[1])
    assert (plain_G - contrast_G).abs().max() > 0.05


def test_with_soft_accuracies_the_bonus_acts(make_group):
    texts = ("<answer>1</answer>", "<answer>6</answer>", "<answer>10</answer>")
    group = make_group(*texts, answer="10", problem_type="regression")
    group = replace(group, contrast=group.completions[:1])
    accuracy, advantage = Accuracy(), GroupAdvantage(eps=0.0)
    plain_G = advantage(CompositeReward({"accuracy": accuracy})(group)[1])
    contrast_G = advantage(CompositeReward({"accuracy": accuracy, "contrast": TemporalContrast(accuracy)})(group)[1])
    assert (plain_G - contrast_G).abs().max() > 0.05


def test_a_reward_says_which_rollouts_it_needs_and_all_must_agree():
    accuracy = Accuracy()
    assert CompositeReward({"accuracy": accuracy}).contrast is None
    half = TemporalContrast(accuracy)
    assert CompositeReward({"accuracy": accuracy, "a": half, "b": TemporalContrast(accuracy, mu=0.8)}).contrast == (
        half.contrast
    )
    assert [half.contrast.num_completions(size) for size in (8, 5, 1)] == [4, 2, 1]
    with pytest.raises(ConfigError, match="one set"):
        CompositeReward({"a": half, "b": TemporalContrast(accuracy, granularity="temporal_patch")})
    with pytest.raises(ConfigError, match="share=0"):
        TemporalContrast(accuracy, share=0)
