"""Laws of the group-relative advantage."""

import statistics

import pytest
import torch

from ktr.algorithm.advantage import GroupAdvantage


@pytest.mark.parametrize(("std", "spread"), [("unbiased", statistics.stdev), ("biased", statistics.pstdev)])
def test_is_the_formula(std, spread):
    rewards = [0.0, 1.0, 1.0, 2.2, 0.5]
    expected = [(r - statistics.mean(rewards)) / (spread(rewards) + 1e-4) for r in rewards]
    torch.testing.assert_close(GroupAdvantage(std=std)(torch.tensor(rewards)), torch.tensor(expected))


@pytest.mark.parametrize("G", [1, 3, 7, 8])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.2, 1e-8])
def test_equal_rewards_give_exactly_zero(G, reward):
    assert torch.equal(GroupAdvantage()(torch.full((G,), reward)), torch.zeros(G))


def test_better_completions_have_larger_advantages_and_they_sum_to_zero():
    rewards = torch.tensor([0.0, 2.0, 1.0])
    advantages = GroupAdvantage()(rewards)
    assert advantages[1] > 0 > advantages[0] and advantages.sum().abs() < 1e-6
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(GroupAdvantage()(rewards[order]), advantages[order])
