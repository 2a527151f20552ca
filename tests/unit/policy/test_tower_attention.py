"""Windows of every length, batched by length, attend as each would alone."""

import torch
import torch.nn.functional as F

from ktr.policy.tower_attention import tower_sdpa


def test_windows_of_mixed_lengths_equal_a_loop_over_them():
    lengths = [4, 2, 4, 3, 2]
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    q, k, v = (torch.randn(1, 2, sum(lengths), 8, requires_grad=True) for _ in range(3))
    windows = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
    expected = torch.cat([F.scaled_dot_product_attention(*window, scale=0.3) for window in windows], dim=2)
    out, _ = tower_sdpa(torch.nn.Identity(), q, k, v, scaling=0.3, cu_seq_lens_q=boundaries)
    torch.testing.assert_close(out, expected.transpose(1, 2))
    expected_grads = torch.autograd.grad(expected.square().sum(), [q, k, v])
    for grad, expected_grad in zip(torch.autograd.grad(out.square().sum(), [q, k, v]), expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad)
