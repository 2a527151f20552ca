"""Rows behind prompts that they share attend as each would alone to its prompt, its own tokens, and repeated heads."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ktr.policy.decode_attention import SharedPrompts, attend_behind_prompts
from ktr.policy.packed_row import GroupSpan, PackedLayout
from ktr.policy.prefix_attention import prefix_flash, prefix_sdpa
from ktr.rollout.transformers.decode_cache import DecodeCache
from tests.attention_parity import eager

LENGTHS, OWN, D, SCALING = (11, 2, 7), 4, 8, 0.11
LIVE = {"all": range(12), "uneven": (0, 4, 5, 6, 8, 9, 11), "a prompt is done": (8, 1, 9, 3), "one": (7,)}


def prefilled(heads: int, kv_heads: int, dtype: torch.dtype = torch.float32) -> tuple[DecodeCache, list[Tensor]]:
    """A cache behind three prompts, two with padding, that 4 rows each share; and all that the rows see, repeated."""
    spans = tuple(GroupSpan(sum(LENGTHS[:b]), length, ()) for b, length in enumerate(LENGTHS))
    cache, packed = DecodeCache(PackedLayout(spans)), torch.randn(2, 1, kv_heads, sum(LENGTHS), D).to(dtype)
    cache.update(*packed, 0)
    cache.open_rows(num_completions=4, capacity=OWN)
    own = torch.randn(2, 12, kv_heads, OWN, D).to(dtype)
    for column in range(OWN - 1):
        cache.update(*own[:, :, :, column, None], 0)
        cache.advance()
    of_prompts = torch.zeros(2, 12, kv_heads, max(LENGTHS), D).to(dtype)
    for b, of_prompt in enumerate(packed.split(LENGTHS, 3)):
        of_prompts[:, 4 * b : 4 * b + 4, :, : LENGTHS[b]] = of_prompt
    visible = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).repeat_interleave(4)[:, None]
    visible = torch.cat([visible, torch.ones(12, OWN, dtype=torch.bool)], 1)[:, None, None]
    return cache, [*torch.cat([of_prompts, own], dim=3), visible]


def shared(cache: DecodeCache) -> SharedPrompts:
    prompts = cache.attention["prompts"]
    assert isinstance(prompts, SharedPrompts)
    return prompts


@pytest.mark.parametrize("heads, kv_heads", [(8, 2), (7, 1), (4, 4)])
@pytest.mark.parametrize("live", LIVE)
@pytest.mark.parametrize("attention", [prefix_sdpa, prefix_flash])
def test_a_row_attends_as_it_would_to_keys_of_its_own(heads: int, kv_heads: int, live: str, attention):
    cache, (key, value, visible) = prefilled(heads, kv_heads)
    rows = torch.tensor(LIVE[live])
    cache.keep_rows(rows)
    key, value, visible = key[rows], value[rows], visible[rows]
    query = torch.randn(len(rows), 1, heads, D).transpose(1, 2)  # heads come apart from the layer's projection so
    keys, values = cache.update(key[:, :, -1:], value[:, :, -1:], 0)
    layer = torch.nn.Identity()
    layer.layer_idx = 0  # pyright: ignore
    out, _ = attention(layer, query, keys, values, cache.mask, scaling=SCALING, **cache.attention)
    torch.testing.assert_close(out, eager(query, key, value, visible), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("autocast", [False, True])
def test_scores_of_halves_are_not_rounded(autocast: bool):
    """Scores of 30 would be, by up to an eighth each, and a weight by a tenth."""
    cache, (key, value, visible) = prefilled(8, 2, torch.bfloat16)
    query = (30 * torch.randn(12, 8, 1, D)).bfloat16()
    keys, values = cache.update(key[:, :, -1:], value[:, :, -1:], 0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = attend_behind_prompts(query, keys, values, shared(cache), 0, SCALING)
    exact = eager(query.double(), key.double(), value.double(), visible)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact, atol=1.5e-2, rtol=0)


def test_what_stands_beside_the_rows_of_a_prompt_is_a_row():
    cache, _ = prefilled(4, 4)
    cache.keep_rows(torch.tensor(LIVE["uneven"]))
    prompts = shared(cache)
    assert prompts.rows_BG.tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert all(n < m for n, m in pairwise(prompts.rows_BG[prompts.places_2N[0], prompts.places_2N[1]].tolist()))
