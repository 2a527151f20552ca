"""Chunked distances of distributions equal the naive ones, in a fraction of their memory."""

import math
from dataclasses import replace

import pytest
import torch

from ktr.attribution.distances import MEASURES, distances
from ktr.attribution.views import Factual, MaskedVideo, ShuffledFrames
from ktr.scoring.scorer import GroupScorer
from ktr.token_head import log_probs
from ktr.types import Distributions
from tests.linear_head import LinearHead
from tests.tiny_policy import random_group

BANNED = torch.tensor([3, 17])


def naive(name, p_logits, q_logits):
    """Textbook formulas on the full (N, V) probabilities."""
    keep = [v for v in range(p_logits.shape[1]) if v not in BANNED.tolist()]
    p, q = p_logits[:, keep].softmax(-1), q_logits[:, keep].softmax(-1)
    m = (p + q) / 2
    kl = lambda a, b: torch.special.xlogy(a, a).sum(-1) - torch.special.xlogy(a, b).sum(-1)  # noqa: E731
    return {
        "l1": lambda: (p - q).abs().sum(-1),
        "l2": lambda: (p - q).square().sum(-1).sqrt(),
        "kl": lambda: kl(p, q),
        "js": lambda: (kl(p, m) + kl(q, m)) / 2,
        "cosine": lambda: 1 - torch.cosine_similarity(p, q, dim=-1),
        "hellinger": lambda: (p.sqrt() - q.sqrt()).square().sum(-1).div(2).sqrt(),
    }[name]()


def pair(N=23, D=8, V=31, scale=1.0, **settings) -> tuple[Distributions, Distributions]:
    mask = torch.zeros(3, N, dtype=torch.bool)
    mask[0, : N - 5], mask[2, :5] = True, True
    weight = scale * torch.randn(V, D)
    p, q = (Distributions(torch.randn(N, D), LinearHead(weight), mask, BANNED, **settings) for _ in range(2))
    return p, q


def logits(distributions: Distributions) -> torch.Tensor:
    return distributions.head(distributions.hidden_ND) / distributions.temperature


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("chunk_size", [1, 7, 512])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_equal_to_the_naive_ones_and_zero_off_the_mask(name, chunk_size, temperature):
    p, q = pair(temperature=temperature, chunk_size=chunk_size)
    ours = distances(p, q, name)
    exact = naive(name, logits(p).double(), logits(q).double()).float()
    torch.testing.assert_close(ours[p.completion_mask_GT], exact, atol=1e-5, rtol=1e-5)
    assert exact.min() > 1e-3 and not ours[~p.completion_mask_GT].any()


@pytest.mark.parametrize("name", MEASURES)
def test_exactly_zero_for_an_unchanged_view(name):
    p, _ = pair(scale=3.0)
    assert not distances(p, p.detach(), name).any()


@pytest.mark.parametrize("name", MEASURES)
def test_symmetric_but_for_kl(name):
    p, q = pair()
    there, back = distances(p, q, name), distances(q, p, name)
    assert torch.allclose(there, back, atol=1e-6, rtol=0) is (name != "kl")


@pytest.mark.parametrize(
    ("name", "largest"), [("l1", 2), ("l2", math.sqrt(2)), ("js", math.log(2)), ("cosine", 1), ("hellinger", 1)]
)
def test_certain_of_different_words_is_as_far_as_it_gets(name, largest):
    mask, banned = torch.ones(1, 1, dtype=torch.bool), torch.tensor([2])
    p, q = (Distributions(400 * row[None], LinearHead(torch.eye(4)), mask, banned) for row in torch.eye(4)[:2])
    assert distances(p, q, name).item() == pytest.approx(largest, abs=1e-6)
    assert distances(p, q, "kl").item() == pytest.approx(400, rel=1e-5)


def test_a_small_shift_is_not_lost_in_rounding():
    p, q = pair()
    near = replace(p, hidden_ND=p.hidden_ND + 1e-3 * q.hidden_ND)
    for name in ("cosine", "hellinger", "js"):
        ours = distances(p, near, name)[p.completion_mask_GT]
        exact = naive(name, logits(p).double(), logits(near).double()).float()
        torch.testing.assert_close(ours, exact, rtol=0.02, atol=3e-9)


def peak_bytes(compute) -> int:
    """The most that torch's allocator held at once while computing: counted, not sampled."""
    with torch.profiler.profile(profile_memory=True) as profile:
        compute()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("name", MEASURES)
def test_under_a_quarter_of_the_memory_of_full_logits(name):
    """A group of 8 · 96 tokens, 64 rows of logits at a time: as 8 · 768 at the default chunk of 512."""
    p, q = pair(N=768, V=2000, chunk_size=64)
    full = peak_bytes(lambda: naive(name, logits(p), logits(q)))
    assert full >= 4 * 768 * 1998 * 4  # logits and probabilities of both
    assert peak_bytes(lambda: distances(p, q, name)) < full / 4


@pytest.mark.parametrize("name", MEASURES)
def test_no_gradient_and_fp32_under_autocast(name):
    p, q = pair(V=64, D=64, scale=1 / 8)
    p = replace(p, hidden_ND=p.hidden_ND.requires_grad_())
    exact = distances(p, q, name)
    with torch.autocast("cpu", torch.bfloat16):
        half = distances(p, q, name)
    assert half.dtype == torch.float32 and not exact.requires_grad
    torch.testing.assert_close(half, exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("view", [Factual(), MaskedVideo("drop", 0.5), MaskedVideo("noise_frames"), ShuffledFrames()])
@torch.no_grad()
def test_every_view_leaves_the_distributions_that_its_log_probs_are_of(policy, view):
    groups = [random_group(policy, 0, [4, 1, 6]), random_group(policy, 1, [3])]
    features = policy.encode_video([group.prompt for group in groups])
    scorer = GroupScorer(temperature=0.8)
    scored = scorer.score(policy, groups, features, view, [1, 2])
    factual = scorer.score(policy, groups, features, Factual(), [1, 2])
    for group, under_view, as_is in zip(groups, scored, factual, strict=True):
        held, mask = under_view.distributions, group.completion_mask_GT
        full = log_probs(held, slice(None))
        sampled = full.gather(1, group.completion_ids_GT[mask][:, None])[:, 0]
        torch.testing.assert_close(sampled, under_view.logps_GT[mask])
        moved = distances(as_is.distributions, held, "js")
        assert not moved[~mask].any() and (moved[mask] > 1e-6).all() == (view != Factual())
