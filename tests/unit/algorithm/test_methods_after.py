"""Laws of the methods that came after GRPO: what each is where its one change has no effect, and its gradient."""

from collections.abc import Mapping
from math import ceil

import pytest
import torch
from torch import Tensor

from ktr.algorithm.advantage import CentredAdvantage, GroupAdvantage
from ktr.algorithm.cispo import ClippedImportance
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.penalties import MaskedViewDivergence, SampledSurprise
from ktr.algorithm.reductions import ConstantLength, TokenReduction
from ktr.algorithm.token_baseline import OptimalTokenBaseline, token_advantages
from ktr.algorithm.visual_dependency import VisualDependency, completion_weights
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import VisualSignal
from ktr.attribution.views import MaskedVideo, View
from ktr.token_head import log_probs, sums_of_squares
from ktr.types import Distributions, Medium, TokenScores
from tests.linear_head import LinearHead

G, T, D, V = 4, 10, 5, 13
MASK = torch.arange(T)[None] < torch.tensor([10, 6, 1, 7])[:, None]
FULL = torch.ones(G, T, dtype=torch.bool)
REWARDS = torch.tensor([0.0, 1.0, 2.0, 1.0])
MEDIA = (Medium("video", (4, 4, 4), 1.0),)


def rows(seed: int) -> Tensor:
    return -torch.rand(G, T, generator=torch.Generator().manual_seed(seed))


def loss_and_gradient(
    loss: ClippedSurrogate,
    mask: Tensor = MASK,
    old: Tensor | None = None,
    advantages: Tensor | None = None,
    views: Mapping[View, TokenScores] | None = None,
) -> tuple[Tensor, Tensor]:
    logps = rows(0).requires_grad_()
    advantages = CentredAdvantage()(REWARDS) if advantages is None else advantages
    old = logps.detach() if old is None else old
    terms = loss(logps, old, None, advantages, mask, mask.float(), G, int(mask.sum()), views=views)
    return terms.loss, torch.autograd.grad(terms.loss, logps)[0]


def test_dr_grpo_is_a_mean_over_sequences_where_all_are_as_long_as_the_constant():
    constant, mean = (loss_and_gradient(ClippedSurrogate(reduction=r), FULL) for r in (ConstantLength(T), None))
    torch.testing.assert_close(constant, mean)


def test_dr_grpo_adds_over_micro_batches_ignores_padding_and_grows_with_the_rewards():
    reduce = ConstantLength(40)
    whole = reduce(rows(1) * MASK, MASK, MASK, G, 0)
    parts = [reduce(rows(1)[i : i + 1] * MASK[i : i + 1], MASK[i : i + 1], MASK[i : i + 1], G, 0) for i in range(G)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)
    torch.testing.assert_close(whole, (rows(1) * MASK).sum() / (G * 40), msg="whatever the lengths are")
    torch.testing.assert_close(reduce((rows(1) * MASK)[1:2, :6], MASK[1:2, :6], MASK[1:2, :6], G, 0), parts[1])
    loss = ClippedSurrogate(reduction=reduce)
    once, thrice = (loss_and_gradient(loss, advantages=CentredAdvantage()(c * REWARDS))[1] for c in (1.0, 3.0))
    torch.testing.assert_close(thrice, 3 * once)
    with pytest.raises(ValueError, match="length=0"):
        ConstantLength(0)


def test_cispo_on_policy_has_the_gradient_of_a_token_mean():
    reduction = TokenReduction("token_mean")
    cispo, plain = (
        loss_and_gradient(loss)[1]
        for loss in (ClippedImportance(1.0, 4.0, reduction=reduction), ClippedSurrogate(reduction=reduction))
    )
    torch.testing.assert_close(cispo, plain)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_cispo_bounds_the_weight_of_a_token_where_the_clipped_surrogate_drops_it(advantage: float):
    far = rows(0) - 2.0  # a ratio of e² on each token
    advantages, reduction = torch.full((G,), advantage), TokenReduction("token_mean")
    _, gradient = loss_and_gradient(ClippedImportance(1.0, 4.0, reduction=reduction), old=far, advantages=advantages)
    expected = torch.where(MASK, -5.0 * advantage / MASK.sum(), 0.0)
    torch.testing.assert_close(gradient, expected)
    _, clipped = loss_and_gradient(ClippedSurrogate(reduction=reduction), old=far, advantages=advantages)
    assert bool((clipped == 0).all()) == (advantage > 0)


def perception(gamma: float) -> ClippedSurrogate:
    return ClippedSurrogate(penalties={"perception": MaskedViewDivergence(gamma), "surprise": None})


VIEW = MaskedVideo("drop", 0.6)


def test_papo_without_a_weight_a_change_or_media_is_its_base():
    base = loss_and_gradient(ClippedSurrogate())
    torch.testing.assert_close(loss_and_gradient(perception(0.0), views={VIEW: TokenScores(rows(1))}), base)
    torch.testing.assert_close(loss_and_gradient(perception(0.3), views={VIEW: TokenScores(rows(0))}), base)
    torch.testing.assert_close(loss_and_gradient(perception(0.3), views={}), base)
    assert perception(0.3).required_views(MEDIA) == (VIEW,) and perception(0.3).required_views(()) == ()


def test_papo_pays_for_what_the_masked_view_finds_less_likely():
    masked = {VIEW: TokenScores(rows(1))}
    base, once, twice = (loss_and_gradient(perception(gamma), views=masked)[1] for gamma in (0.0, 0.1, 0.2))
    lengths = MASK.sum(1, keepdim=True)
    expected = torch.where(MASK, -0.1 * (1 - (rows(1) - rows(0)).exp()) / (G * lengths), 0.0)
    torch.testing.assert_close(once - base, expected)
    torch.testing.assert_close(twice - base, 2 * expected)
    value = loss_and_gradient(perception(0.1), views=masked)[0] - loss_and_gradient(perception(0.0), views=masked)[0]
    assert value < 0, "a divergence is never negative, and it is paid for"


def test_papo_s_divergence_is_bounded_where_a_token_is_likelier_without_the_video():
    masked = {VIEW: TokenScores(rows(0) + 5.0)}
    gradient = loss_and_gradient(perception(0.1), views=masked)[1] - loss_and_gradient(perception(0.0))[1]
    assert not gradient.any()


class Probability:
    """A penalty whose derivative is not finite where the log-prob is not."""

    def required_views(self, media: object) -> tuple[View, ...]:
        return ()

    def __call__(self, logps_GT: Tensor, views: object) -> Tensor:
        return logps_GT.exp()


def test_what_stands_off_the_mask_reaches_no_penalty():
    loss = ClippedSurrogate(penalties={"probability": Probability()})
    clean = loss_and_gradient(loss)
    logps = torch.where(MASK, rows(0), torch.inf).requires_grad_()
    terms = loss(logps, rows(0), None, CentredAdvantage()(REWARDS), MASK, MASK.float(), G, int(MASK.sum()))
    torch.testing.assert_close((terms.loss, torch.autograd.grad(terms.loss, logps)[0]), clean)


def test_a_push_on_sampled_tokens_is_an_advantage_of_each():
    penalties = {"surprise": SampledSurprise(0.06)}
    pushed = loss_and_gradient(ClippedSurrogate(penalties=penalties))[1]
    raised = loss_and_gradient(ClippedSurrogate(), advantages=CentredAdvantage()(REWARDS) + 0.06)[1]
    torch.testing.assert_close(pushed, raised)


def test_a_group_of_equal_rewards_is_learned_from_where_there_is_a_penalty():
    assert perception(0.1).learns_without_advantage and not ClippedSurrogate().learns_without_advantage
    assert not ClippedSurrogate(penalties={"perception": None}).learns_without_advantage


def test_vppo_s_weights_of_completions_have_a_mean_of_one_and_a_floor():
    weights = completion_weights(torch.tensor([0.3, 0.1, 0.2, 0.9]), 0.9)
    assert weights.mean() == pytest.approx(1.0) and weights.min() == pytest.approx(0.9)
    assert weights.argsort().tolist() == [1, 2, 0, 3]
    assert completion_weights(torch.full((G,), 0.2), 0.9).tolist() == [1.0] * G


def test_vppo_keeps_the_tokens_that_depend_most_and_is_uniform_without_its_two_changes():
    signal = VisualSignal(fraction=0.5)
    scores = TokenScores(torch.where(MASK, rows(0), 0.0))
    moved = TokenScores(torch.where(MASK, rows(2) - 2, 0.0))
    eos = torch.zeros_like(MASK)
    group = GroupScores(scores, {signal.view: moved}, MASK, eos)
    weights = VisualDependency({"visual": signal}, TopRatio(0.4))(group).weights_GT
    assert (weights != 0).sum(1).tolist() == [ceil(0.4 * n) for n in MASK.sum(1).tolist()]
    assert not weights[~MASK].any() and (weights[weights != 0] >= 0.9 - 1e-6).all()
    plain = VisualDependency({"visual": signal}, TopRatio(1.0), least=1.0)(group).weights_GT
    torch.testing.assert_close(plain, MASK.float())
    with pytest.raises(ValueError, match=r"least=1\.5"):
        VisualDependency({"visual": signal}, TopRatio(0.4), least=1.5)


def test_a_token_s_baseline_is_the_mean_reward_where_all_tokens_move_the_policy_alike():
    found = token_advantages(REWARDS, torch.ones(G, T), FULL)
    torch.testing.assert_close(found, CentredAdvantage()(REWARDS)[:, None].expand(G, T))


def test_advantages_of_tokens_weighed_by_what_came_before_add_to_nothing_and_ignore_a_shift():
    norms = -rows(3)
    energy = (norms * MASK).cumsum(1) * MASK
    found = token_advantages(REWARDS, norms, MASK)
    torch.testing.assert_close((energy * found).sum(0), torch.zeros(T), atol=1e-5, rtol=0)
    torch.testing.assert_close(token_advantages(REWARDS + 3, norms, MASK), found, atol=1e-5, rtol=1e-5)
    assert not found[~MASK].any()


def test_tokens_that_the_policy_was_sure_of_change_no_baseline():
    sure = -rows(3)
    sure[:, 4] = 0.0  # as many completions reach this place as the one before
    found = token_advantages(REWARDS, sure, MASK)
    torch.testing.assert_close(found[:, 4], found[:, 3])
    assert not torch.allclose(found[:, 5], found[:, 4])


def distributions(mask: Tensor = MASK) -> Distributions:
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(int(mask.sum()), D, generator=draw), torch.randn(V, D, generator=draw)
    return Distributions(hidden, LinearHead(weight), mask, torch.tensor([3]), chunk_size=7)


def test_the_norm_is_that_of_the_gradient_with_respect_to_the_logits():
    found = distributions()
    torch.testing.assert_close(sums_of_squares(found), log_probs(found, slice(None)).exp().square().sum(1))
    probs = torch.softmax(torch.randn(V, generator=torch.Generator().manual_seed(1)), 0)
    gradient = torch.nn.functional.one_hot(torch.tensor(2), V) - probs
    torch.testing.assert_close(gradient.square().sum(), 1 - 2 * probs[2] + probs.square().sum())


def test_the_baseline_reads_distributions_and_leaves_equal_rewards_alone():
    logps = torch.zeros(G, T).masked_scatter(MASK, log_probs(distributions(), slice(None))[:, 0])
    scores = TokenScores(logps, distributions=distributions())
    found = OptimalTokenBaseline().of_tokens(REWARDS, scores, MASK)
    assert found[MASK].isfinite().all() and not found[~MASK].any() and (found[0][MASK[0]][:1] < 0).all()
    assert not OptimalTokenBaseline().of_tokens(torch.ones(G), scores, MASK).any()
    assert OptimalTokenBaseline()(REWARDS).tolist() == CentredAdvantage()(REWARDS).tolist()
    with pytest.raises(ValueError, match="distributions"):
        OptimalTokenBaseline().of_tokens(REWARDS, TokenScores(logps), MASK)


def test_advantages_of_tokens_that_are_all_alike_are_those_of_completions():
    of_completions = GroupAdvantage()(REWARDS)
    of_tokens = of_completions[:, None].expand(G, T)
    old = rows(4)
    torch.testing.assert_close(
        loss_and_gradient(ClippedSurrogate(), old=old, advantages=of_tokens),
        loss_and_gradient(ClippedSurrogate(), old=old, advantages=of_completions),
    )
