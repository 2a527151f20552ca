"""Laws of soft weights by rank."""

import pytest
import torch

from ktr.attribution.soft_ranks import LARGEST_GAMMA, SoftRanks

CURVES = list(LARGEST_GAMMA)
LENGTHS = torch.tensor([23, 4, 9, 1, 2])
MASK = torch.arange(23)[None] < LENGTHS[:, None]
EOS = torch.arange(23)[None] == LENGTHS[:, None] - 1
NO_EOS = torch.zeros_like(MASK)
SCORES = torch.where(MASK, torch.rand(5, 23, generator=torch.Generator().manual_seed(0)), 1e6)


def test_the_sigmoid_is_the_published_formula():
    weights = SoftRanks()(SCORES, MASK, NO_EOS)
    for i, length in enumerate(LENGTHS.tolist()):
        if length > 1:
            order = SCORES[i, :length].argsort(descending=True)
            rank = torch.arange(length) / (length - 1)
            expected = 1 + 1.5 * (torch.sigmoid(20 * (0.5 - rank)) - 0.5)
            torch.testing.assert_close(weights[i, order], expected)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("scope", ["completion", "group"])
def test_gamma_zero_is_uniform_bitwise(curve, scope):
    assert torch.equal(SoftRanks(curve, gamma=0.0, scope=scope)(SCORES, MASK, EOS), MASK.float())


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("sharpness", [0.5, 5.0, 20.0, 2000.0])
def test_weights_vanish_off_the_mask_and_on_it_have_mean_one_and_are_never_negative(curve, sharpness):
    weights = SoftRanks(curve, LARGEST_GAMMA[curve], sharpness)(SCORES, MASK, NO_EOS)
    assert not weights[~MASK].any() and weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), LENGTHS.float())


@pytest.mark.parametrize("curve", CURVES)
def test_a_higher_score_weighs_more_and_equal_ones_the_same(curve):
    scores = torch.tensor([[0.3, 0.9, 0.3, 0.1, 0.5]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    weights = SoftRanks(curve, 1.0, 5.0)(scores, mask, ~mask)[0]
    assert weights[1] > weights[4] > weights[0] == weights[2] > weights[3]
    assert torch.equal(SoftRanks(curve, 1.0, 5.0)(scores * 7, mask, ~mask)[0], weights)  # ranks alone


@pytest.mark.parametrize("curve", CURVES)
def test_a_signal_that_did_not_act_weighs_every_token_one(curve):
    for scores in (torch.zeros(5, 23), -SCORES):
        assert torch.equal(SoftRanks(curve, 1.0, 5.0)(scores, MASK, EOS), MASK.float())


@pytest.mark.parametrize("curve", CURVES)
def test_eos_and_a_token_alone_weigh_one(curve):
    weights = SoftRanks(curve, 1.0, 5.0)(SCORES, MASK, EOS)
    assert (weights[EOS] == 1).all() and weights[3, 0] == 1 and weights[4, 0] == 1
    assert not (SoftRanks(curve, 1.0, 5.0, eos_selectable=True)(SCORES, MASK, EOS)[EOS] == 1).all()


@pytest.mark.parametrize("curve", CURVES)
def test_the_scope_is_the_tokens_that_are_ranked_together(curve):
    joined = SCORES[MASK][None]
    alone = torch.ones_like(joined, dtype=torch.bool)
    together = SoftRanks(curve, 1.0, 5.0, scope="group")(SCORES, MASK, NO_EOS)
    torch.testing.assert_close(together[MASK], SoftRanks(curve, 1.0, 5.0)(joined, alone, ~alone)[0])


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("scope", ["completion", "group"])
def test_permuting_the_completions_permutes_the_weights(curve, scope):
    order = torch.tensor([2, 0, 4, 3, 1])
    rank = SoftRanks(curve, 1.0, 5.0, scope)
    torch.testing.assert_close(rank(SCORES[order], MASK[order], EOS[order]), rank(SCORES, MASK, EOS)[order])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"curve": "cubic"}, "cubic"),
        ({"gamma": -0.1}, "gamma"),
        ({"gamma": 2.1}, "negative"),
        ({"curve": "softmax", "gamma": 1.5}, "gamma in"),
        ({"sharpness": 0.0}, "sharpness"),
        ({"scope": "batch"}, "batch"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(settings, named):
    with pytest.raises(Exception, match=named):
        SoftRanks(**settings)
