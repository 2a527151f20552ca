"""The divergence of a group's distributions, in chunks, equals the one from full logits."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ktr.attribution.views import Factual
from ktr.scoring.group_divergence import PositionDivergence
from ktr.scoring.scorer import GroupScorer
from ktr.types import Distributions
from tests.linear_head import LinearHead
from tests.tiny_policy import random_group

G, T, D, V = 4, 9, 6, 41
MASK = torch.arange(T)[None] < torch.tensor([9, 3, 1, 7])[:, None]


def distributions(chunk_size: int = 512, banned=(), dtype=torch.float32, scale: float = 2.0) -> Distributions:
    hidden, weight = scale * torch.randn(int(MASK.sum()), D, dtype=dtype), torch.randn(V, D, dtype=dtype)
    banned_ids = torch.tensor(banned, dtype=torch.long)
    return Distributions(
        hidden.requires_grad_(), LinearHead(weight.requires_grad_()), MASK, banned_ids, 1.0, chunk_size
    )


def naive(d: Distributions) -> torch.Tensor:
    """The formulas as they are written, on the logits of the whole group at once."""
    kept = [v for v in range(d.head(d.hidden_ND).shape[1]) if v not in d.banned_ids.tolist()]
    logits = d.head(d.hidden_ND)[:, kept] / d.temperature
    logps_GTV = logits.new_full((*d.completion_mask_GT.shape, len(kept)), 1 / len(kept)).log()
    logps_GTV = logps_GTV.masked_scatter(d.completion_mask_GT[..., None], torch.log_softmax(logits, -1))
    mean_TV = logps_GTV.mean(0)
    delta_GTV = torch.clamp(mean_TV - logps_GTV, -11, 11)
    kl_GT = (torch.exp(delta_GTV) - delta_GTV - 1).sum(-1)
    return kl_GT.mean(0)


@pytest.mark.parametrize("chunk_size", [1, 7, 512])
@pytest.mark.parametrize("banned", [(), (3, 17)])
@pytest.mark.parametrize("detach", [True, False])
def test_it_equals_the_naive_one(chunk_size, banned, detach):
    d = distributions(chunk_size, banned)
    torch.testing.assert_close(PositionDivergence(detach)(d), naive(d), rtol=1e-5, atol=1e-5)


def test_a_difference_past_the_clamp_equals_the_naive_one():
    d = distributions(scale=30.0)
    logps = d.head(d.hidden_ND).log_softmax(-1)
    assert logps.min() < -40
    torch.testing.assert_close(PositionDivergence()(d), naive(d), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 7, 512])
def test_its_gradient_equals_the_naive_one(chunk_size):
    d = distributions(chunk_size, (3, 17), torch.float64)
    upstream_T = torch.randn(T, dtype=torch.float64)
    ours = torch.autograd.grad(
        (PositionDivergence(detach=False)(d) * upstream_T).sum(), [d.hidden_ND, d.head.weight_VD]
    )
    theirs = torch.autograd.grad((naive(d) * upstream_T).sum(), [d.hidden_ND, d.head.weight_VD])
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)
    assert not PositionDivergence()(d).requires_grad


def test_completions_that_agree_diverge_nowhere_while_all_of_them_go_on():
    mask_GT = torch.ones(3, 4, dtype=torch.bool)
    mask_GT[2, 2:] = False
    hidden_TD = torch.randn(4, D)
    hidden_ND = torch.cat([hidden_TD, hidden_TD, hidden_TD[:2]])
    d = Distributions(hidden_ND, LinearHead(torch.randn(V, D)), mask_GT, torch.tensor([], dtype=torch.long))
    k_T = PositionDivergence()(d)
    torch.testing.assert_close(k_T[:2], torch.zeros(2), rtol=0, atol=1e-5)
    assert (k_T[2:] > 0.1).all()


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_no_tensor_holds_more_logits_than_a_chunk_of_positions():
    d = distributions(chunk_size=2 * G)
    with LargestTensor() as largest:
        PositionDivergence()(d)
    assert largest.numel <= 2 * G * V < G * T * V
    with LargestTensor() as largest:
        PositionDivergence(detach=False)(d).sum().backward()
    assert largest.numel <= 2 * G * V


@torch.no_grad()
def test_of_a_scored_group_at_the_sampling_temperature(policy):
    group = random_group(policy, 1, [6, 2, 5])
    scorer = GroupScorer(temperature=0.7, chunk_size=4)
    features = policy.encode_video([group.prompt])
    (scores,) = scorer.score_pass(policy, [group], features, [Factual()], [0])
    k_T = PositionDivergence()(scores.distributions)
    torch.testing.assert_close(k_T, naive(scores.distributions), rtol=1e-5, atol=1e-5)
    permuted = replace(group, completions=tuple(group.completions[i] for i in (2, 0, 1)))
    (scores,) = scorer.score_pass(policy, [permuted], features, [Factual()], [0])
    torch.testing.assert_close(PositionDivergence()(scores.distributions), k_T, rtol=1e-4, atol=1e-4)
