"""Parts are disjoint and complete, and rules are sums of them."""

import pytest
import torch
from torch import Tensor

from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.weighting import KeyTokens, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.errors import ConfigError
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.scorer import GroupScorer
from ktr.study.gradients import PartGradients
from ktr.study.parts import PartMaker
from ktr.types import Experience, RolloutGroup, TokenWeights
from tests.tiny_policy import random_group

KINDS = ["verb", "noun"]
SIGNALS = {"visual": VisualSignal(), "entropy": EntropySignal(), "temporal": TemporalSignal()}
WEIGHTING = KeyTokens(SIGNALS, TopRatio())
PARTS = PartMaker(KINDS, WEIGHTING, {0.5: TopRatio(0.5)}, {"both": KINDS})


def label(group: RolloutGroup) -> list[list[str]]:
    names = [*KINDS, "no kind that is asked for"]
    return [[names[place % 3] for place in range(len(c.token_ids_T))] for c in group.completions]


def experience(policy: QwenVLPolicy, index: int) -> Experience:
    return Experience(random_group(policy, index, [5, 9, 7]), {}, torch.ones(3), torch.tensor([1.0, -1.0, 0.5]))


class Halved(Uniform):
    def __call__(self, group: GroupScores) -> TokenWeights:
        return TokenWeights(super().__call__(group).weights_GT / 2)


def collect(policy: QwenVLPolicy) -> PartGradients:
    found = PartGradients(policy, GroupScorer(), ClippedSurrogate(), PARTS, label, num_batches=2, max_gib=1.0)
    found.add(0, [experience(policy, 0), experience(policy, 1)], [0, 1])
    equal = random_group(policy, 2, [4, 4, 4])
    found.add(1, [experience(policy, 3), Experience(equal, {}, torch.ones(3), torch.zeros(3))], [3, 2])
    return found


@pytest.fixture(scope="module")
def collected(policy: QwenVLPolicy) -> PartGradients:
    return collect(policy)


def summed(found: PartGradients, rule) -> Tensor:
    parts = [much * found.gradients_PBD[PARTS.names.index(part)] for part, much in rule.items()]
    return torch.stack(parts).sum(0)


def test_the_kinds_are_disjoint_and_add_up_to_the_whole(collected: PartGradients):
    whole_BD = summed(collected, {"all": 1.0})
    kinds_BD = sum(summed(collected, rule) for rule in PARTS.rules()["kinds"].values())
    assert whole_BD.norm() > 0 and (kinds_BD - whole_BD).norm() < 1e-5 * whole_BD.norm()
    assert collected.parts_error < 1e-5
    shares = PARTS.token_shares(collected.num_tokens)
    assert sum(shares[kind] for kind in (*KINDS, "other words")) == pytest.approx(1) and min(shares.values()) > 0


def test_parts_side_by_side_have_the_gradients_of_one_after_the_other(policy: QwenVLPolicy, collected: PartGradients):
    torch.set_num_threads(3)
    try:
        threaded = collect(policy)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(threaded.gradients_PBD, collected.gradients_PBD)
    assert threaded.num_tokens == collected.num_tokens


def test_a_group_of_equal_rewards_teaches_nothing(collected: PartGradients):
    assert collected.num_teaching == 3 and collected.num_tokens["all"] == 3 * (5 + 9 + 7)


def test_a_union_and_what_it_leaves_are_the_whole(collected: PartGradients):
    rules = PARTS.rules()
    union = rules["signals"]["visual+entropy+temporal"]
    whole_BD = summed(collected, {"all": 1.0})
    rest_BD = summed(collected, rules["controls"]["all others"])
    assert torch.allclose(summed(collected, union) + rest_BD, whole_BD, atol=1e-6)
    shares = PARTS.token_shares(collected.num_tokens)
    assert shares["visual+entropy+temporal"] + shares["all others"] == pytest.approx(1)
    assert shares["random"] == pytest.approx(shares["visual+entropy+temporal"])
    assert shares["visual"] < shares["visual+entropy"] < shares["visual+entropy+temporal"] < shares["ratio 0.5"]


def test_a_rule_is_the_gradient_of_its_own_selection(policy: QwenVLPolicy, collected: PartGradients):
    """Against a pass of its own, with the weights of the weighting in training."""
    alone = KeyTokens({"visual": VisualSignal()}, TopRatio())
    other = PartGradients(
        policy, GroupScorer(), ClippedSurrogate(), PartMaker([], alone, {}, {}), None, num_batches=1, max_gib=1.0
    )
    other.add(0, [experience(policy, 0), experience(policy, 1)], [0, 1])
    expected_D = other.gradients_PBD[other.parts.names.index("exactly visual"), 0]
    found_D = summed(collected, PARTS.rules()["signals"]["visual"])[0]
    assert (found_D - expected_D).norm() < 1e-5 * expected_D.norm()


def test_without_signals_there_are_kinds_alone():
    parts = PartMaker(KINDS, KeyTokens({}, TopRatio()), {}, {})
    assert parts.names == ["all", *KINDS, "other words"] and set(parts.rules()) == {"kinds", "oracles", "whole"}


def test_gradients_that_do_not_fit_are_refused(policy: QwenVLPolicy):
    with pytest.raises(ConfigError, match=r"take .* GiB, max_gib=0\.001: freeze parts .*lower num_groups"):
        PartGradients(policy, GroupScorer(), ClippedSurrogate(), PARTS, label, num_batches=2, max_gib=0.001)


def test_another_weighting_is_a_part_of_its_own(policy: QwenVLPolicy):
    parts = PartMaker([], KeyTokens({}, TopRatio()), {}, {}, {"half": Halved()})
    found = PartGradients(policy, GroupScorer(), ClippedSurrogate(), parts, None, num_batches=1, max_gib=1.0)
    found.add(0, [experience(policy, 0)], [0])
    whole_D, half_D = (found.gradients_PBD[found.parts.names.index(name), 0] for name in ("all", "half"))
    torch.testing.assert_close(half_D, whole_D / 2)
    assert parts.rules()["others"] == {"half": {"half": 1.0}}
