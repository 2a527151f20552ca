"""TW-GRPO's weights: the published formula, its bounds, and its laws."""

import pytest
import torch

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.group_divergence import GroupDivergence, divergence_weights
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.reductions import TokenReduction
from ktr.algorithm.weighting import TokenWeighting, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.scoring.group_divergence import PositionDivergence
from ktr.types import Distributions, TokenScores
from tests.linear_head import LinearHead

G, T, D, V = 4, 8, 5, 23
MASK = torch.arange(T)[None] < torch.tensor([8, 3, 1, 6])[:, None]
EOS = torch.arange(T)[None] == MASK.sum(1, keepdim=True) - 1


def factual(order: list[int] | None = None) -> TokenScores:
    """Scores of a group whose completions stand in ``order``."""
    generator = torch.Generator().manual_seed(0)
    hidden_GTD = torch.randn(G, T, D, generator=generator)
    weight_VD = torch.randn(V, D, generator=generator)
    order = order or list(range(G))
    mask_GT = MASK[order]
    hidden_ND = hidden_GTD[order][mask_GT].requires_grad_()
    logps_GT = torch.zeros(G, T).masked_scatter(mask_GT, (hidden_ND @ weight_VD.t()).log_softmax(-1)[:, 0])
    distributions = Distributions(hidden_ND, LinearHead(weight_VD), mask_GT, torch.tensor([], dtype=torch.long))
    return TokenScores(logps_GT, distributions=distributions)


def test_weights_are_scaled_from_the_least_to_the_most_divergent_position():
    k_T = torch.tensor([2.0, 5.0, 3.0, 2.0])
    torch.testing.assert_close(divergence_weights(k_T, 1.7), torch.tensor([1.0, 1.7, 1 + 0.7 / 3, 1.0]))
    assert divergence_weights(torch.full((3,), 4.0), 1.7).tolist() == [1.0, 1.0, 1.0]


def test_a_position_has_one_weight_for_all_completions_and_none_past_their_end():
    weights = GroupDivergence(PositionDivergence())(GroupScores(factual(), {}, MASK, EOS))
    k_T = PositionDivergence()(factual().distributions)
    expected_T = 1 + 0.7 * (k_T - k_T.min()) / (k_T.max() - k_T.min() + 1e-8)
    torch.testing.assert_close(weights.weights_GT, expected_T.expand(G, T) * MASK, rtol=1e-5, atol=1e-5)
    assert weights.weights_GT.max() == pytest.approx(1.7) and weights.weights_GT[MASK].min() == 1
    assert not weights.scores["group_divergence"][~MASK].any()


def loss_and_gradient(weighting: TokenWeighting) -> tuple[torch.Tensor, torch.Tensor]:
    scores = factual()
    weights = weighting(GroupScores(scores, {}, MASK, EOS)).weights_GT
    advantages_G = GroupAdvantage()(torch.tensor([0.0, 1.0, 2.0, 1.0]))
    loss = ClippedSurrogate(clip_high=0.28, reduction=TokenReduction("token_mean"))
    terms = loss(scores.logps_GT, scores.logps_GT.detach(), None, advantages_G, MASK, weights, G, int(MASK.sum()))
    return terms.loss, torch.autograd.grad(terms.loss, scores.distributions.hidden_ND)[0]


@pytest.mark.parametrize("detach", [True, False])
def test_at_alpha_one_it_is_grpo_bitwise(detach):
    ours, grpo = loss_and_gradient(GroupDivergence(PositionDivergence(detach), 1.0)), loss_and_gradient(Uniform())
    assert torch.equal(ours[0], grpo[0]) and torch.equal(ours[1], grpo[1])


def test_above_one_it_is_not_grpo():
    ours, grpo = loss_and_gradient(GroupDivergence(PositionDivergence())), loss_and_gradient(Uniform())
    assert not torch.equal(ours[1], grpo[1])


def test_weights_are_constants_unless_the_divergence_keeps_its_gradient():
    constant, released = (loss_and_gradient(GroupDivergence(PositionDivergence(detach))) for detach in (True, False))
    assert torch.equal(constant[0], released[0]) and not torch.allclose(constant[1], released[1])

    scores = factual()
    weights = GroupDivergence(PositionDivergence(detach=False))(GroupScores(scores, {}, MASK, EOS))
    logps_GT = scores.logps_GT
    advantages_G = GroupAdvantage()(torch.tensor([0.0, 1.0, 2.0, 1.0]))
    # The loss as released: −Σ w·ρ·A·mask / Σ mask, ρ = exp(logp − sg(logp)).
    loss = -(weights.weights_GT * (logps_GT - logps_GT.detach()).exp() * advantages_G[:, None] * MASK).sum()
    loss = loss / MASK.sum()
    torch.testing.assert_close(released[0], loss)
    torch.testing.assert_close(released[1], torch.autograd.grad(loss, scores.distributions.hidden_ND)[0])
    assert weights.detach().weights_GT.requires_grad is False


def test_permuting_the_completions_permutes_the_weights():
    order = [2, 0, 3, 1]
    weighting = GroupDivergence(PositionDivergence())
    weights_GT = weighting(GroupScores(factual(), {}, MASK, EOS)).weights_GT
    permuted_GT = weighting(GroupScores(factual(order), {}, MASK[order], EOS[order])).weights_GT
    torch.testing.assert_close(permuted_GT, weights_GT[order])


def test_scores_without_distributions_are_refused():
    with pytest.raises(ValueError, match="without distributions"):
        GroupDivergence(PositionDivergence())(GroupScores(TokenScores(torch.zeros(G, T)), {}, MASK, EOS))
