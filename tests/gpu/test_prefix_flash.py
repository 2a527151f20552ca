"""FlashAttention-2 and sdpa compute the same packed attention on a GPU, in half precision."""

import pytest
import torch

from ktr.policy.prefix_attention import GroupSpan, PackedLayout, prefix_flash, prefix_sdpa

pytest.importorskip("flash_attn", reason="the flash-attn extra is not installed")

H, K, D = 8, 2, 64
LAYOUT = PackedLayout((GroupSpan(0, 300, (70, 30, 55, 70, 1)), GroupSpan(526, 120, (40,)), GroupSpan(686, 33, (5, 4))))


def test_both_backends_agree_forward_and_backward():
    heads = [
        torch.randn(1, n, LAYOUT.length, D, device="cuda", dtype=torch.bfloat16, requires_grad=True) for n in (H, K, K)
    ]
    upstream = torch.randn(1, LAYOUT.length, H, D, device="cuda", dtype=torch.bfloat16)
    outputs, gradients = [], []
    for attention in (prefix_sdpa, prefix_flash):
        out, _ = attention(torch.nn.Identity(), *heads, None, scaling=D**-0.5, layout=LAYOUT)
        outputs.append(out.float())
        gradients.append([g.float() for g in torch.autograd.grad((out * upstream).sum(), heads)])
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-2, rtol=2e-2)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=6e-2, rtol=6e-2)
