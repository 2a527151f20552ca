"""One token a row attends to the shared key-value heads as it would to a copy of them for each query head."""

import pytest
import torch
import torch.nn.functional as F

from ktr.policy.prefix_attention import prefix_flash, prefix_sdpa

N, L, D = 3, 11, 8


@pytest.mark.parametrize("num_heads, num_kv_heads", [(8, 2), (7, 1), (4, 4)])
@pytest.mark.parametrize("masked", [True, False])
def test_one_token_equals_attention_to_repeated_heads(num_heads: int, num_kv_heads: int, masked: bool):
    query = torch.randn(N, 1, num_heads, D).transpose(1, 2)  # heads come apart from the layer's projection so
    room = torch.randn(2, N, num_kv_heads, L + 5, D)
    key, value = room[:, :, :, :L]  # the written part of a cache
    visible = torch.rand(N, 1, 1, L) < 0.7
    visible[..., -1] = True
    mask = visible if masked else None
    k, v = (x.repeat_interleave(num_heads // num_kv_heads, 1) for x in (key, value))
    expected = F.scaled_dot_product_attention(query, k, v, mask, scale=0.3).transpose(1, 2)
    out, _ = prefix_sdpa(torch.nn.Identity(), query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 4])
def test_a_mask_of_single_tokens_is_honoured_beside_flash_attention_too(length: int):
    """FlashAttention takes no mask of single tokens, which is what the engine gives prompts of unlike lengths."""
    module = torch.nn.Identity()
    module.is_causal, module.num_key_value_groups = True, 2  # pyright: ignore
    heads = torch.randn(N, 4, length, D), torch.randn(N, 2, L, D), torch.randn(N, 2, L, D)
    mask = torch.rand(N, 1, length, L) < 0.7
    mask[..., -1] = True
    expected, _ = prefix_sdpa(module, *heads, mask, scaling=0.3)
    out, _ = prefix_flash(module, *heads, mask, scaling=0.3)
    assert torch.equal(out, expected)
