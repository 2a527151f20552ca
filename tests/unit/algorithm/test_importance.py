"""Importance weights restore the trainer's distribution; the mismatch reads how far the engine is from it."""

import math

import pytest
import torch

from ktr.algorithm.importance import ImportanceCorrection, SequenceMask, TokenTruncation, mismatch
from ktr.algorithm.loss import ClippedSurrogate

G, T, V = 4, 6, 5
MASK = torch.arange(T)[None] < torch.tensor([6, 2, 4, 1])[:, None]
CORRECTIONS: list[ImportanceCorrection] = [TokenTruncation(1.5), SequenceMask(0.8, 1.25)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OLD, ENGINE = normal(G, T, seed=1), normal(G, T, seed=1) + 0.6 * normal(G, T, seed=2)


def test_token_truncation_token_by_token():
    weights = TokenTruncation(1.5)(OLD, ENGINE, MASK)
    for i in range(G):
        for t in range(T):
            expected = min(math.exp(OLD[i, t] - ENGINE[i, t]), 1.5) if MASK[i, t] else 0.0
            assert weights[i, t].item() == pytest.approx(expected, rel=1e-12)
    assert (weights == 1.5).any() and (weights[MASK] < 1.5).any(), "the cap acts on some tokens and not on others"


def test_sequence_mask_sequence_by_sequence():
    kept = 0
    for low, high in ((0.8, 1.25), (0.99, 1.01), (0.0, math.inf)):
        weights = SequenceMask(low, high)(OLD, ENGINE, MASK)
        for i in range(G):
            log_ratios = [(OLD[i, t] - ENGINE[i, t]).item() for t in range(T) if MASK[i, t]]
            inside = low <= math.prod(map(math.exp, log_ratios)) ** (1 / len(log_ratios)) <= high
            assert weights[i].tolist() == [float(inside and m) for m in MASK[i].tolist()]
            kept += inside
    assert 4 < kept < 12, "some sequences are kept and some are not"


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_an_engine_that_agrees_with_the_trainer_is_weighed_one_to_the_bit(correction):
    assert torch.equal(correction(OLD, OLD.clone(), MASK), MASK.double())


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_what_is_off_the_mask_never_matters_and_weights_have_no_gradient(correction):
    dirty = ENGINE.masked_fill(~MASK, torch.nan)
    old = OLD.masked_fill(~MASK, -torch.inf).requires_grad_()
    weights = correction(old, dirty, MASK)
    assert torch.equal(weights, correction(OLD, ENGINE, MASK)) and not weights.requires_grad
    a, b = mismatch(old, dirty, MASK), mismatch(OLD, ENGINE, MASK)
    assert (a.absolute, a.kl, a.largest, a.num_tokens) == (b.absolute, b.kl, b.largest, b.num_tokens)


def test_settings_without_sense_are_refused():
    with pytest.raises(ValueError, match="cap=0.5"):
        TokenTruncation(0.5)
    with pytest.raises(ValueError, match="low=1.5"):
        SequenceMask(1.5, 2.0)


# --- a toy with a known answer: all outcomes are enumerated, μ is the policy with perturbed logits ---


def one_token(perturbation: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits θ of π, log μ, and the advantage of each word."""
    theta = normal(V, seed=3)
    return theta, (theta + perturbation * normal(V, seed=4)).log_softmax(0), normal(V, seed=5)


def expected_gradient(theta: torch.Tensor, log_mu: torch.Tensor, advantages: torch.Tensor, correction) -> torch.Tensor:
    """E_{y ~ μ} of the gradient that the loss gives, its sign turned: one row for each outcome, A weighed with μ."""
    theta = theta.clone().requires_grad_()
    logps, mask = theta.log_softmax(0)[:, None], torch.ones(V, 1, dtype=torch.bool)
    importance = None if correction is None else correction(logps.detach(), log_mu[:, None], mask)
    ones = torch.ones_like(logps)
    terms = ClippedSurrogate()(
        logps, logps.detach(), None, log_mu.exp() * advantages, mask, ones, 1, V, importance_GT=importance
    )
    return -torch.autograd.grad(terms.loss, theta)[0]


def on_policy_gradient(theta: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad((theta.softmax(0) * advantages).sum(), theta)[0]


def test_one_token_the_correction_restores_the_on_policy_gradient_exactly():
    theta, log_mu, advantages = one_token(0.5)
    on_policy = on_policy_gradient(theta, advantages)
    corrected = expected_gradient(theta, log_mu, advantages, TokenTruncation(1e6))
    torch.testing.assert_close(corrected, on_policy, rtol=1e-12, atol=1e-14)
    uncorrected = expected_gradient(theta, log_mu, advantages, None)
    assert (uncorrected - on_policy).norm() > 0.05 * on_policy.norm(), "and without it the gradient is another"


@pytest.mark.parametrize("cap", [1.0, 1.3, 2.0])
def test_one_token_a_cap_leaves_out_what_is_above_it_and_bounds_the_variance(cap):
    theta, log_mu, advantages = one_token(1.0)
    pi, mu = theta.softmax(0), log_mu.exp()
    assert (pi / mu).max() > 2, "every cap acts"
    left_out = (pi - cap * mu).clamp(min=0)
    score = torch.eye(V, dtype=torch.float64) - pi  # row y: ∇ log π(y)
    bias = on_policy_gradient(theta, advantages) - expected_gradient(theta, log_mu, advantages, TokenTruncation(cap))
    torch.testing.assert_close(bias, (left_out * advantages) @ score, rtol=1e-10, atol=1e-14)
    weights = TokenTruncation(cap)(pi.log()[:, None], log_mu[:, None], torch.ones(V, 1, dtype=torch.bool))[:, 0]
    assert (mu * weights**2).sum() <= cap, "the second moment of the weights, which is unbounded without a cap"


class TwoTokens:
    """π(y1, y2) = π(y1) π(y2 | y1) with logits of its own for each y1, and μ with all logits perturbed."""

    def __init__(self, perturbation: float):
        self.first, self.second = normal(V, seed=6).requires_grad_(), normal(V, V, seed=7).requires_grad_()
        self.mu_first = (self.first + perturbation * normal(V, seed=8)).log_softmax(0).detach()
        self.mu_second = (self.second + perturbation * normal(V, V, seed=9)).log_softmax(1).detach()
        self.advantages = normal(V, V, seed=10)
        self.mu = (self.mu_first[:, None] + self.mu_second).exp()  # of each outcome

    def gradient(self, weights: str) -> list[torch.Tensor]:
        first, second = self.first.log_softmax(0), self.second.log_softmax(1)
        logps = torch.stack([first[:, None].expand(V, V), second], -1).reshape(V * V, 2)
        engine = torch.stack([self.mu_first[:, None].expand(V, V), self.mu_second], -1).reshape(V * V, 2)
        mask = torch.ones(V * V, 2, dtype=torch.bool)
        match weights:
            case "token":
                importance = TokenTruncation(1e6)(logps, engine, mask)
            case "product":
                importance = (logps.detach() - engine).sum(1, keepdim=True).exp().expand(-1, 2)
            case _:
                importance = None
        loss = ClippedSurrogate()  # each row's mean over 2 tokens: twice it is the sum of the formulas
        terms = loss(
            logps, logps.detach(), None, 2 * (self.mu * self.advantages).flatten(), mask, torch.ones_like(logps),
            1, 2 * V * V, importance_GT=importance,
        )  # fmt: skip
        return [-gradient for gradient in torch.autograd.grad(terms.loss, (self.first, self.second))]

    def on_policy(self) -> list[torch.Tensor]:
        pi = (self.first.log_softmax(0)[:, None] + self.second.log_softmax(1)).exp()
        return [*torch.autograd.grad((pi * self.advantages).sum(), (self.first, self.second))]


def test_two_tokens_the_product_of_both_ratios_would_be_exact():
    toy = TwoTokens(0.5)
    for corrected, exact in zip(toy.gradient("product"), toy.on_policy(), strict=True):
        torch.testing.assert_close(corrected, exact, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("perturbation", [0.01, 0.1, 0.5])
def test_two_tokens_weighed_on_their_own_leave_the_prefix_and_the_future_to_the_engine(perturbation):
    """For a token, what came before is μ's (second token) and what comes after is (first): each bounded by 2·TV."""
    toy = TwoTokens(perturbation)
    pi_first, pi_second = toy.first.detach().softmax(0), toy.second.detach().softmax(1)
    mu_first, mu_second = toy.mu_first.exp(), toy.mu_second.exp()
    bias = [corrected - exact for corrected, exact in zip(toy.gradient("token"), toy.on_policy(), strict=True)]

    # exactly: the prefix of μ in front of the on-policy gradient of the second token …
    value = (pi_second * toy.advantages).sum(1, keepdim=True)
    after_first = pi_second * (toy.advantages - value)
    torch.testing.assert_close(bias[1], (mu_first - pi_first)[:, None] * after_first, rtol=1e-9, atol=1e-14)
    # … and the future of μ in the value of the first
    values_gap = ((mu_second - pi_second) * toy.advantages).sum(1)
    score = torch.eye(V, dtype=torch.float64) - pi_first
    torch.testing.assert_close(bias[0], (pi_first * values_gap) @ score, rtol=1e-9, atol=1e-14)

    largest = toy.advantages.abs().max() * math.sqrt(2)  # |A| · ‖∇ log π‖
    assert bias[1].norm() <= (mu_first - pi_first).abs().sum() * largest
    assert bias[0].norm() <= (mu_second - pi_second).abs().sum(1).max() * largest
    uncorrected = [plain - exact for plain, exact in zip(toy.gradient("none"), toy.on_policy(), strict=True)]
    assert sum(b.norm() ** 2 for b in bias) < sum(u.norm() ** 2 for u in uncorrected)


# --- the mismatch metric ---


def test_mismatch_reads_an_injected_perturbation():
    offsets = torch.where(normal(G, T, seed=11) > 0, 0.3, -0.1).double()
    offsets[2, 1] = 0.7
    found = mismatch(OLD, OLD + offsets, MASK)
    injected = offsets[MASK].tolist()
    assert found.num_tokens == len(injected) == 13
    assert found.absolute.item() == pytest.approx(sum(map(abs, injected)))
    assert found.kl.item() == pytest.approx(sum(math.exp(-d) - 1 + d for d in injected))
    assert found.largest.item() == pytest.approx(0.7)


def test_mismatch_adds_over_groups():
    whole = mismatch(OLD, ENGINE, MASK)
    parts = [mismatch(OLD[rows], ENGINE[rows], MASK[rows]) for rows in (slice(0, 1), slice(1, 4))]
    for name in ("num_tokens", "absolute", "kl"):
        torch.testing.assert_close(getattr(parts[0], name) + getattr(parts[1], name), getattr(whole, name))
    assert max(part.largest for part in parts) == whole.largest


@pytest.mark.parametrize("perturbation", [0.01, 0.3, 1.0])
def test_its_kl_is_that_of_the_engine_to_a_trainer_with_perturbed_weights(perturbation):
    """A policy of words h·w: the engine's w is perturbed. Each word is there as often as the engine samples it."""
    hidden, weights = normal(8, seed=12), normal(V, 8, seed=13)
    counts = ((weights + perturbation * normal(V, 8, seed=14)) @ hidden / 4).softmax(0).mul(1000).ceil().long()
    log_mu, log_pi = (counts.double() / counts.sum()).log(), (weights @ hidden / 4).log_softmax(0)
    words = torch.arange(V).repeat_interleave(counts)[None]
    found = mismatch(log_pi[words], log_mu[words], torch.ones_like(words, dtype=torch.bool))
    exact = (log_mu.exp() * (log_mu - log_pi)).sum()
    assert (found.kl / found.num_tokens).item() == pytest.approx(exact.item(), rel=1e-4)
