"""The chunked head equals the naive one, forward and backward."""

import pytest
import torch

from ktr.token_head import token_logps, token_ranks
from ktr.types import Distributions

N, D, V = 23, 8, 31
BANNED = torch.tensor([3, 17])


def naive(hidden, weight, targets, temperature):
    logits = (hidden @ weight.t()) / temperature
    logps = logits.index_fill(1, BANNED, -torch.inf).log_softmax(-1)
    entropies = torch.special.entr(logps.exp()).sum(-1)
    return logps.gather(1, targets[:, None])[:, 0], entropies


@pytest.fixture
def inputs():
    hidden, weight = torch.randn(N, D, dtype=torch.float64), torch.randn(V, D, dtype=torch.float64)
    allowed = torch.tensor([i for i in range(V) if i not in BANNED.tolist()])
    return hidden.requires_grad_(), weight.requires_grad_(), allowed[torch.randint(len(allowed), (N,))]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_size", [1, 7, 512])
def test_values_and_gradients_equal_the_naive_ones(inputs, temperature, chunk_size):
    hidden, weight, targets = inputs
    upstream = torch.randn(N, dtype=torch.float64)
    expected, expected_entropies = naive(hidden, weight, targets, temperature)
    expected_grads = torch.autograd.grad((expected * upstream).sum(), [hidden, weight])

    logps, entropies = token_logps(hidden, weight, targets, BANNED, temperature, chunk_size)
    grads = torch.autograd.grad((logps * upstream).sum(), [hidden, weight])
    torch.testing.assert_close(logps, expected)
    torch.testing.assert_close(entropies, expected_entropies)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad)


def test_entropies_carry_no_gradient_and_are_left_out_on_request(inputs):
    hidden, weight, targets = inputs
    assert not token_logps(hidden, weight, targets, BANNED)[1].requires_grad
    assert token_logps(hidden, weight, targets, BANNED, entropy=False)[1] is None


def test_a_frozen_head_gets_no_gradient(inputs):
    hidden, weight, targets = inputs
    weight.requires_grad_(False)
    token_logps(hidden, weight, targets, BANNED)[0].sum().backward()
    assert hidden.grad is not None and weight.grad is None


def test_half_precision_under_autocast_stays_close_forward_and_backward():
    hidden, weight = torch.randn(N, 64, requires_grad=True), (torch.randn(V, 64) / 8).requires_grad_()
    targets = torch.full((N,), 5)
    expected, _ = naive(hidden, weight, targets, 1.0)
    expected_grad = torch.autograd.grad(expected.sum(), hidden)[0]
    with torch.autocast("cpu", torch.bfloat16):
        logps, entropies = token_logps(hidden, weight, targets, BANNED, chunk_size=4)
    assert logps.dtype == torch.float32 and entropies.dtype == torch.float32
    torch.testing.assert_close(logps, expected, atol=0.05, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(logps.sum(), hidden)[0], expected_grad, atol=0.02, rtol=0)


def test_no_rows_give_no_scores_and_no_error(inputs):
    hidden, weight, targets = inputs
    logps, entropies = token_logps(hidden[:0], weight, targets[:0], BANNED)
    assert logps.shape == entropies.shape == (0,)


@pytest.mark.parametrize("chunk_size", [1, 7, 512])
def test_a_rank_is_one_and_the_number_of_likelier_words(inputs, chunk_size):
    hidden, weight, targets = inputs
    rows = Distributions(hidden, lambda x: x @ weight.t(), torch.ones(1, N, dtype=torch.bool), BANNED, 1.0, chunk_size)
    logits = (hidden @ weight.t()).index_fill(1, BANNED, -torch.inf)
    expected = [1 + sum(other > row[target] for other in row) for row, target in zip(logits, targets)]
    assert token_ranks(rows, targets).tolist() == expected
