"""Both backends of the packed attention compute what full rows of prompt + completion would."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from ktr.policy.packed_row import GroupSpan, PackedLayout
from ktr.policy.prefix_attention import attention_name, prefix_flash, prefix_sdpa

H, K, D = 4, 2, 8
LAYOUT = PackedLayout((GroupSpan(0, 5, (4, 2, 3)), GroupSpan(14, 6, (2,)), GroupSpan(22, 3, (5, 1))))
PROMPTS = PackedLayout((GroupSpan(0, 11, ()), GroupSpan(11, 4, ()), GroupSpan(15, 16, ())))  # of equal length


def full_rows(query, key, value, layout):
    """Each completion with its own copy of the prompt, causally; the prompt's outputs are those of its first copy."""
    out = torch.empty_like(query)
    for span in layout.spans:
        prompt = list(range(span.start, span.completions_start))
        for g, length in enumerate(span.lengths or (0,)):
            start = span.completions_start + sum(span.lengths[:g])
            rows = prompt + list(range(start, start + length))
            q, k, v = (x[:, :, rows] for x in (query, key, value))
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            out[:, :, rows if g == 0 else rows[len(prompt) :]] = attended if g == 0 else attended[:, :, len(prompt) :]
    return out.transpose(1, 2)


def varlen_attention(q, k, v, cu_q, cu_k, max_q, max_k, softmax_scale, causal):
    """What flash_attn_varlen_func promises: causal to the lower right within each sequence."""
    assert causal and max_q == cu_q.diff().max() and max_k == cu_k.diff().max()
    out = torch.empty_like(q)
    for i in range(len(cu_q) - 1):
        rows, keys = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1])
        qi, ki, vi = (x.transpose(0, 1)[None] for x in (q[rows], k[keys], v[keys]))
        mask = torch.ones(qi.shape[2], ki.shape[2], dtype=torch.bool).tril(ki.shape[2] - qi.shape[2])
        attended = F.scaled_dot_product_attention(qi, ki, vi, mask, scale=softmax_scale, enable_gqa=True)
        out[rows] = attended[0].transpose(0, 1)
    return out


@pytest.fixture
def heads():
    return (
        torch.randn(1, H, LAYOUT.length, D, requires_grad=True),
        torch.randn(1, K, LAYOUT.length, D, requires_grad=True),
        torch.randn(1, K, LAYOUT.length, D, requires_grad=True),
    )


@pytest.fixture
def flash_attn(monkeypatch):
    module = ModuleType("flash_attn")
    module.flash_attn_varlen_func = varlen_attention  # pyright: ignore
    monkeypatch.setitem(sys.modules, "flash_attn", module)


@pytest.mark.parametrize("layout", [LAYOUT, PROMPTS], ids=["groups", "prompts"])
@pytest.mark.parametrize("attention", [prefix_sdpa, prefix_flash])
def test_a_packed_row_equals_full_rows_forward_and_backward(heads, attention, layout, flash_attn):
    upstream = torch.randn(1, LAYOUT.length, H, D)
    expected = full_rows(*heads, layout)
    expected_grads = torch.autograd.grad((expected * upstream).sum(), heads)
    out, _ = attention(torch.nn.Identity(), *heads, None, scaling=D**-0.5, layout=layout)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    for grad, expected_grad in zip(torch.autograd.grad((out * upstream).sum(), heads), expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, atol=1e-5, rtol=1e-5)


def test_without_a_layout_it_is_transformers_own_attention(heads):
    module = torch.nn.Identity()
    module.is_causal, module.num_key_value_groups = True, H // K  # pyright: ignore
    out, _ = prefix_sdpa(module, *heads, None, scaling=D**-0.5)
    q, k, v = heads
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(out, expected)


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="eager"):
        attention_name("eager")
