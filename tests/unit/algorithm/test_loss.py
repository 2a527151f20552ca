"""Laws of the clipped surrogate, the penalty and the reductions."""

import math

import pytest
import torch

from ktr.algorithm.cispo import ClippedImportance
from ktr.algorithm.loss import ClippedSurrogate, LossTerms, k3
from ktr.algorithm.reductions import TokenReduction

REDUCTIONS = [("sequence_mean", "completion"), ("sequence_mean", "selected"), ("token_mean", "completion")]


class Batch:
    """Ragged completions in float64; the third has no weighted token."""

    def __init__(self, seed: int = 0, G: int = 4, T: int = 7) -> None:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.old = -normal(G, T).abs() - 0.1
        self.logps = self.old + 0.4 * normal(G, T)
        self.ref = self.old + 0.4 * normal(G, T)
        self.advantages = normal(G)
        lengths = torch.tensor([T, 3, 5, 1])
        self.mask = torch.arange(T)[None] < lengths[:, None]
        self.weights = (normal(G, T) > 0).double() * self.mask
        self.weights[0, 0] = self.weights[3, 0] = 1
        self.weights[2] = 0

    def loss(self, loss: ClippedSurrogate, logps: torch.Tensor | None = None, **changed) -> LossTerms:
        logps = self.logps if logps is None else logps
        arguments = dict(
            logps_GT=logps, old_logps_GT=self.old, ref_logps_GT=self.ref if loss.needs_reference else None,
            advantages=self.advantages, completion_mask_GT=self.mask, token_weights_GT=self.weights,
            num_sequences=len(self.mask), num_tokens=int(self.mask.sum()),
        )  # fmt: skip
        return loss(**{**arguments, **changed})


def naive(b: Batch, loss: ClippedSurrogate) -> float:
    """Token by token, in plain floats."""
    total = 0.0
    for i in range(len(b.mask)):
        tokens = [t for t in range(b.mask.shape[1]) if b.mask[i, t]]
        selected = [t for t in tokens if b.weights[i, t] != 0]
        policy = penalty = 0.0
        for t in tokens:
            ratio, advantage = math.exp(b.logps[i, t] - b.old[i, t]), b.advantages[i].item()
            clipped = min(max(ratio, 1 - loss.clip_low), 1 + loss.clip_high)
            policy -= b.weights[i, t].item() * min(ratio * advantage, clipped * advantage)
            d = (b.ref[i, t] - b.logps[i, t]).item()
            if loss.kl_scope == "completion" or t in selected:
                penalty += math.exp(d) - d - 1
        if loss.reduction.reduction == "token_mean":
            total += (policy + loss.beta * penalty) / b.mask.sum().item()
        else:
            by_selected = loss.reduction.denominator == "selected"
            policy_count = len(selected) if by_selected else len(tokens)
            penalty_count = len(selected) if by_selected and loss.kl_scope == "selected" else len(tokens)
            total += (policy / max(policy_count, 1) + loss.beta * penalty / max(penalty_count, 1)) / len(b.mask)
    return total


@pytest.mark.parametrize(("reduction", "denominator"), REDUCTIONS)
@pytest.mark.parametrize("kl_scope", ["completion", "selected"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_agrees_with_token_by_token(reduction, denominator, kl_scope, beta):
    loss = ClippedSurrogate(0.2, 0.28, beta, kl_scope, TokenReduction(reduction, denominator))
    b = Batch()
    terms = b.loss(loss)
    assert terms.loss.item() == pytest.approx(naive(b, loss), rel=1e-12)
    assert terms.loss.item() == pytest.approx((terms.policy_loss + beta * terms.kl).item(), rel=1e-12)


@pytest.mark.parametrize(("reduction", "denominator"), REDUCTIONS)
@pytest.mark.parametrize("kl_scope", ["completion", "selected"])
def test_gradient_is_the_finite_difference(reduction, denominator, kl_scope):
    loss = ClippedSurrogate(beta=0.3, kl_scope=kl_scope, reduction=TokenReduction(reduction, denominator))
    b = Batch(1)
    assert torch.autograd.gradcheck(lambda x: b.loss(loss, x).loss, b.logps.requires_grad_(), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "given", [{"clip_low": -0.1}, {"clip_high": -1.0}, {"beta": -0.04}, {"beta": math.nan}], ids=str
)
@pytest.mark.parametrize("loss", [ClippedSurrogate, ClippedImportance])
def test_a_term_turned_around_is_refused(loss, given):
    with pytest.raises(ValueError, match="=.*: give 0 or more"):
        loss(**given)


def test_on_policy_the_gradient_is_exactly_minus_advantage_times_weight():
    b = Batch()
    logps = b.logps.clone().requires_grad_()
    terms = b.loss(ClippedSurrogate(), logps, old_logps_GT=logps.detach())
    terms.loss.backward()
    lengths = b.mask.sum(1, keepdim=True)
    torch.testing.assert_close(logps.grad, -b.advantages[:, None] * b.weights / lengths / 4, rtol=1e-14, atol=0)
    assert terms.clip_fraction == 0 and terms.ratio_sum == terms.num_tokens == b.mask.sum()


def test_the_opposite_advantage_gives_the_opposite_gradient():
    gradients = []
    for sign in (1, -1):
        b = Batch()
        logps = b.logps.clone().requires_grad_()
        b.loss(ClippedSurrogate(), logps, old_logps_GT=logps.detach(), advantages=sign * b.advantages).loss.backward()
        gradients.append(logps.grad)
    assert gradients[0].any() and torch.equal(gradients[0], -gradients[1])


@pytest.mark.parametrize(
    ("advantage", "ratio", "clipped"),
    [(1.0, 1.5, True), (1.0, 0.5, False), (-1.0, 1.5, False), (-1.0, 0.5, True), (1.0, 1.1, False), (-1.0, 0.9, False)],
)
def test_the_clip_removes_only_the_gradient_that_would_go_further_away(advantage, ratio, clipped):
    logps = torch.tensor([[math.log(ratio)]], requires_grad=True)
    one = torch.ones(1, 1)
    terms = ClippedSurrogate()(
        logps, torch.zeros(1, 1), None, torch.tensor([advantage]), one.bool(), one, num_sequences=1, num_tokens=1
    )
    terms.loss.backward()
    assert terms.clip_fraction == float(clipped)
    assert logps.grad.item() == pytest.approx(0.0 if clipped else -advantage * ratio)


def test_the_two_clip_bounds_are_their_own():
    def clip_fraction(ratio: float, advantage: float) -> float:
        one = torch.ones(1, 1)
        args = (one.log() + math.log(ratio), one * 0, None, torch.tensor([advantage]), one.bool(), one)
        return ClippedSurrogate(0.1, 0.4)(*args, num_sequences=1, num_tokens=1).clip_fraction.item()

    assert [clip_fraction(1.3, 1.0), clip_fraction(1.5, 1.0)] == [0, 1]
    assert [clip_fraction(0.95, -1.0), clip_fraction(0.8, -1.0)] == [0, 1]


@pytest.mark.parametrize(("reduction", "denominator"), REDUCTIONS)
def test_groups_and_micro_batches_add_to_the_batch(reduction, denominator):
    loss = ClippedSurrogate(beta=0.1, reduction=TokenReduction(reduction, denominator))
    b = Batch()
    whole = b.loss(loss)
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        parts.append(
            loss(
                b.logps[rows], b.old[rows], b.ref[rows], b.advantages[rows], b.mask[rows], b.weights[rows],
                num_sequences=4, num_tokens=int(b.mask.sum()),
            )
        )  # fmt: skip
    for name in ("loss", "policy_loss", "kl", "clip_fraction", "ratio_sum", "num_tokens"):
        torch.testing.assert_close(getattr(parts[0], name) + getattr(parts[1], name), getattr(whole, name))


@pytest.mark.parametrize("garbage", [-torch.inf, torch.inf, torch.nan, 1e30])
def test_what_is_off_the_completion_mask_never_matters(garbage):
    clean, dirty = Batch(), Batch()
    loss = ClippedSurrogate(beta=0.2)
    for tensor in (dirty.logps, dirty.old, dirty.ref, dirty.weights):
        tensor[~dirty.mask] = garbage
    logps = [b.logps.requires_grad_() for b in (clean, dirty)]
    terms = [b.loss(loss) for b in (clean, dirty)]
    for t in terms:
        t.loss.backward()
    assert torch.equal(terms[0].loss, terms[1].loss) and torch.equal(logps[0].grad, logps[1].grad)
    assert not logps[1].grad[~dirty.mask].any() and logps[1].grad[dirty.mask].any()
    assert terms[0].ratio_sum == terms[1].ratio_sum and terms[0].clip_fraction == terms[1].clip_fraction


@pytest.mark.parametrize(("reduction", "denominator"), REDUCTIONS)
def test_a_group_without_a_selected_token_contributes_zero_and_no_nan(reduction, denominator):
    loss = ClippedSurrogate(beta=0.2, kl_scope="selected", reduction=TokenReduction(reduction, denominator))
    b = Batch()
    logps = b.logps.clone().requires_grad_()
    terms = b.loss(loss, logps, token_weights_GT=torch.zeros_like(b.weights))
    terms.loss.backward()
    assert terms.loss == 0 and not logps.grad.any()


def test_tokens_without_a_weight_get_no_policy_gradient_but_the_penalty_by_default():
    for kl_scope, penalised in (("completion", True), ("selected", False)):
        b = Batch()
        logps = b.logps.clone().requires_grad_()
        b.loss(ClippedSurrogate(beta=0.2, kl_scope=kl_scope), logps).loss.backward()
        assert bool(logps.grad[b.mask & (b.weights == 0)].any()) is penalised


def test_weights_of_one_give_the_unweighted_loss_bitwise():
    b = Batch()
    terms = [b.loss(ClippedSurrogate(beta=0.1), token_weights_GT=w) for w in (b.mask.double(), torch.ones_like(b.old))]
    assert torch.equal(terms[0].loss, terms[1].loss)


def test_importance_weights_of_one_change_nothing_bitwise():
    for loss in (ClippedSurrogate(), ClippedSurrogate(beta=0.1, kl_scope="selected")):
        b = Batch()
        logps = [b.logps.clone().requires_grad_() for _ in range(2)]
        plain, weighed = b.loss(loss, logps[0]), b.loss(loss, logps[1], importance_GT=b.mask.double())
        plain.loss.backward()
        weighed.loss.backward()
        for name in ("loss", "policy_loss", "kl", "clip_fraction", "ratio_sum", "num_tokens"):
            assert torch.equal(getattr(plain, name), getattr(weighed, name))
        assert torch.equal(logps[0].grad, logps[1].grad)


@pytest.mark.parametrize(("reduction", "denominator"), REDUCTIONS)
def test_importance_weights_multiply_the_surrogate_and_neither_penalty_nor_counts(reduction, denominator):
    loss = ClippedSurrogate(beta=0.3, kl_scope="selected", reduction=TokenReduction(reduction, denominator))
    b = Batch()
    importance = torch.rand(b.mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    importance[0] = 0  # as of a sequence that is left out
    found = b.loss(loss, importance_GT=importance.masked_fill(~b.mask, torch.nan))
    plain = b.loss(loss)
    assert torch.equal(found.kl, plain.kl) and torch.equal(found.clip_fraction, plain.clip_fraction)
    token_losses = []  # the policy loss is linear in the weights: it is the sum of those of single tokens
    for i, t in b.mask.nonzero().tolist():
        one = torch.zeros_like(importance)
        one[i, t] = 1
        token_losses.append(importance[i, t] * b.loss(loss, importance_GT=one).policy_loss)
    torch.testing.assert_close(found.policy_loss, torch.stack(token_losses).sum(), rtol=1e-12, atol=1e-14)
    assert found.policy_loss != plain.policy_loss


def test_a_policy_far_from_its_rollouts_gives_a_finite_loss_and_gradient():
    b = Batch()
    logps = (b.old + 1e4).requires_grad_()
    terms = b.loss(ClippedSurrogate(beta=0.1), logps)
    terms.loss.backward()
    assert terms.loss.isfinite() and logps.grad.isfinite().all()


def test_k3_is_never_negative_zero_at_equality_and_clamped():
    d = torch.linspace(-12, 12, 4001)
    estimates = k3(torch.zeros_like(d), d)
    assert (estimates >= 0).all() and k3(d, d).eq(0).all()
    inside = d.abs() <= 10
    expected = d.double().exp() - d.double() - 1
    torch.testing.assert_close(estimates[inside], expected[inside].float(), rtol=1e-4, atol=1e-6)
    assert estimates[-1] == pytest.approx(math.exp(10) - 11, rel=1e-5)
    assert estimates[0] == pytest.approx(math.exp(-10) + 9, rel=1e-5)


def test_beta_zero_needs_no_reference_and_beta_above_zero_refuses_its_absence():
    assert not ClippedSurrogate().needs_reference and ClippedSurrogate(beta=0.04).needs_reference
    with pytest.raises(ValueError, match="ref_logps"):
        Batch().loss(ClippedSurrogate(beta=0.04), ref_logps_GT=None)


def test_a_reduction_whose_groups_would_not_add_is_refused():
    with pytest.raises(ValueError, match="token_mean"):
        TokenReduction("token_mean", "selected")
