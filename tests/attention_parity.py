"""Each attention of the policy against a softmax written out in fp64, on any device: forward, and backward too."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ktr.policy.packed_row import GroupSpan, PackedLayout
from ktr.policy.tower_attention import tower_sdpa
from ktr.rollout.transformers.decode_cache import DecodeCache

HEADS, KV_HEADS, WIDTH, SCALING = 8, 2, 64, 0.11
LAYOUT = PackedLayout((GroupSpan(0, 90, (20, 9, 17, 20, 1)), GroupSpan(157, 40, (12,)), GroupSpan(209, 13, (5, 4))))
# Largest difference of an output, and of a gradient by the largest one, from sums of a dtype's rounding.
TOLERANCES = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (2e-2, 3e-2)}
IDENTITY: Any = torch.nn.Identity()
IDENTITY.is_causal, IDENTITY.num_key_value_groups, IDENTITY.layer_idx = True, HEADS // KV_HEADS, 0


def eager(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """(N, H, S, d) of queries over (N, K, L, d): tokens see what is ``visible`` (…, S, L)."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = (query @ key.transpose(2, 3) * SCALING).masked_fill(~visible, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def visible_in_full_rows(layout: PackedLayout) -> Tensor:
    """(L, L): each completion sees its own prompt and causally itself, as a row of its own would."""
    visible = torch.zeros(layout.length, layout.length, dtype=torch.bool)
    for span in layout.spans:
        start, end = span.start, span.completions_start
        visible[start:end, start:end] = True
        for length in span.lengths:
            visible[end : end + length, start : span.completions_start] = True
            visible[end : end + length, end : end + length] = True
            end += length
    return visible.tril()


def assert_packed_equals_full_rows(attention: Callable[..., Any], device: torch.device, dtype: torch.dtype) -> None:
    """A packed row through ``attention``, and its gradients, are those of full rows."""
    heads = _heads(device, dtype, LAYOUT.length)
    visible = visible_in_full_rows(LAYOUT).to(device)
    out, _ = attention(IDENTITY, *heads, None, scaling=SCALING, layout=LAYOUT)
    _assert_equal(out, heads, lambda *exact: eager(*exact, visible), dtype)


def assert_tokens_attend_behind_shared_prompts(
    attention: Callable[..., Any], device: torch.device, dtype: torch.dtype
) -> None:
    """One token a row, of rows that are left behind prompts with padding."""
    query, key, value = (x.detach() for x in _heads(device, dtype, 60))
    cache = DecodeCache(PackedLayout((GroupSpan(0, 30, ()), GroupSpan(30, 9, ()), GroupSpan(39, 18, ()))))
    cache.update(key[:, :, :57], value[:, :, :57], 0)
    cache.open_rows(num_completions=2, capacity=1)
    cache.keep_rows(torch.tensor([0, 1, 5], device=device))
    query, *own = (x[0, :, 57:, None].transpose(0, 1) for x in (query, key, value))
    out, _ = attention(
        IDENTITY, query, *cache.update(own[0], own[1], 0), cache.mask, scaling=SCALING, **cache.attention
    )
    for row, prompt in enumerate((slice(30), slice(30), slice(39, 57))):
        seen = [torch.cat([x[0, :, prompt], x[0, :, 57 + row, None]], 1)[None].double() for x in (key, value)]
        exact = eager(query[row, None].double(), *seen, torch.ones(1, dtype=torch.bool, device=device))
        torch.testing.assert_close(out[row, None].double(), exact, atol=TOLERANCES[dtype][0], rtol=0)


def assert_windows_equal_a_mask(device: torch.device, dtype: torch.dtype) -> None:
    """The tower's windows, of unequal lengths, against one call with a mask."""
    query, key, value = _heads(device, dtype, 60, kv_heads=HEADS)
    boundaries = torch.tensor([0, 16, 32, 40, 56, 60], dtype=torch.int32, device=device)
    window = torch.bucketize(torch.arange(60, device=device), boundaries.long(), right=True)
    out, _ = tower_sdpa(IDENTITY, query, key, value, None, scaling=SCALING, cu_seq_lens_q=boundaries)
    visible = window[:, None] == window
    _assert_equal(out, [query, key, value], lambda *exact: eager(*exact, visible), dtype)


def _heads(device: torch.device, dtype: torch.dtype, length: int, kv_heads: int = KV_HEADS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randn(1, n, length, WIDTH, generator=generator) for n in (HEADS, kv_heads, kv_heads)]
    return [x.to(device, dtype).requires_grad_() for x in drawn]


def _assert_equal(out: Tensor, heads: list[Tensor], exact: Callable[..., Tensor], dtype: torch.dtype) -> None:
    of_output, of_gradient = TOLERANCES[dtype]
    doubles = [x.detach().double().requires_grad_() for x in heads]
    expected = exact(*doubles)
    torch.testing.assert_close(out.double(), expected, atol=of_output, rtol=0)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out.device, dtype)
    gradients = torch.autograd.grad((out * upstream).sum(), heads)
    for found, wanted in zip(gradients, torch.autograd.grad((expected * upstream).sum(), doubles), strict=True):
        scale = float(wanted.abs().max())
        torch.testing.assert_close(found.double(), wanted, atol=of_gradient * scale, rtol=0)
