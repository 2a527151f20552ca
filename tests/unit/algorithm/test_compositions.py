"""Algorithms as compositions: Video-KTR and GRPO differ only in their token weights."""

import pytest
import torch

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.reductions import TokenReduction
from ktr.algorithm.weighting import KeyTokens, RandomTokens, TokenWeighting, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, RandomSignal, TemporalSignal, VisualSignal
from ktr.attribution.soft_ranks import SoftRanks
from ktr.attribution.views import MaskedVideo, ShuffledFrames
from ktr.types import TokenScores

G, T = 5, 12
MASK = torch.arange(T)[None] < torch.tensor([12, 7, 1, 9, 4])[:, None]
EOS = torch.arange(T)[None] == MASK.sum(1, keepdim=True) - 1
SIGNALS = {"entropy": EntropySignal(), "visual": VisualSignal(), "temporal": TemporalSignal()}


def scores(seed: int) -> TokenScores:
    generator = torch.Generator().manual_seed(seed)
    return TokenScores(-torch.rand(G, T, generator=generator), torch.rand(G, T, generator=generator))


def loss_and_gradient(weighting: TokenWeighting, reduction: TokenReduction) -> tuple[torch.Tensor, torch.Tensor]:
    factual = TokenScores(scores(0).logps_GT.requires_grad_(), scores(0).entropies_GT)
    views = {MaskedVideo(): scores(1), ShuffledFrames(): scores(2)}
    weights = weighting(GroupScores(factual.detach(), views, MASK, EOS, tuple(range(G)))).weights_GT
    advantages = GroupAdvantage()(torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0]))
    terms = ClippedSurrogate(beta=0.04, reduction=reduction)(
        factual.logps_GT, scores(3).logps_GT, scores(4).logps_GT, advantages, MASK, weights, G, int(MASK.sum())
    )
    return terms.loss, torch.autograd.grad(terms.loss, factual.logps_GT)[0]


@pytest.mark.parametrize("reduction", [TokenReduction(), TokenReduction("sequence_mean", "selected")])
@pytest.mark.parametrize("scope", ["completion", "group"])
def test_video_ktr_at_ratio_one_is_grpo_bitwise(reduction, scope):
    grpo = loss_and_gradient(Uniform(), reduction)
    ktr = loss_and_gradient(KeyTokens(SIGNALS, TopRatio(1.0, scope)), reduction)
    assert torch.equal(grpo[0], ktr[0]) and torch.equal(grpo[1], ktr[1])


def test_video_ktr_without_signals_is_grpo_bitwise():
    grpo = loss_and_gradient(Uniform(), TokenReduction())
    ktr = loss_and_gradient(KeyTokens(dict.fromkeys(SIGNALS), TopRatio(0.2)), TokenReduction())
    assert torch.equal(grpo[0], ktr[0]) and torch.equal(grpo[1], ktr[1])


@pytest.mark.parametrize("reduction", [TokenReduction(), TokenReduction("token_mean")])
@pytest.mark.parametrize(
    "weighting",
    [
        KeyTokens({"random": RandomSignal()}, TopRatio(1.0)),
        RandomTokens(SIGNALS, TopRatio(1.0)),
        *(KeyTokens(SIGNALS, SoftRanks(curve, 0.0), "mean") for curve in ("sigmoid", "linear", "exponential")),
        KeyTokens(SIGNALS, SoftRanks("softmax", 0.0)),
    ],
)
def test_a_random_mask_of_ratio_one_and_soft_weights_at_gamma_zero_are_grpo_bitwise(weighting, reduction):
    grpo, other = loss_and_gradient(Uniform(), reduction), loss_and_gradient(weighting, reduction)
    assert torch.equal(grpo[0], other[0]) and torch.equal(grpo[1], other[1])


def test_video_ktr_below_ratio_one_is_not_grpo():
    grpo = loss_and_gradient(Uniform(), TokenReduction())
    ktr = loss_and_gradient(KeyTokens(SIGNALS, TopRatio(0.2)), TokenReduction())
    assert not torch.equal(grpo[1], ktr[1])
