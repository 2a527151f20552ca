"""The cache holds what one that is made anew at every token would, through repeated and dropped rows."""

import torch
from torch import Tensor

from ktr.rollout.transformers.decode_cache import DecodeCache, closed_up

N, K, D, LAYERS, PROMPT, CAPACITY = 3, 2, 4, 2, 5, 9


def written(cache: DecodeCache, held: list[Tensor], num_rows: int, num_tokens: int) -> None:
    """Write random tokens to ``cache`` and to ``held``, all that each layer has; both must then hold the same."""
    for layer in range(LAYERS):
        key, value = torch.randn(2, num_rows, K, num_tokens, D)
        keys, values = cache.update(key, value, layer)
        held[layer] = torch.cat([held[layer], torch.stack([key, value])], dim=3)
        assert torch.equal(torch.stack([keys, values]), held[layer])
    cache.advance(num_tokens)


def test_rows_that_are_repeated_and_dropped_keep_what_they_hold():
    cache, held = DecodeCache(), [torch.empty(2, N, K, 0, D)] * LAYERS
    written(cache, held, N, PROMPT)
    cache.repeat_rows(4, CAPACITY)
    held = [layer.repeat_interleave(4, 1) for layer in held]
    written(cache, held, 4 * N, 1)
    for rows in (torch.tensor([0, 11, 2, 3, 10, 5, 6]), torch.tensor([6, 1, 2, 4]), torch.tensor([1])):
        cache.keep_rows(rows)
        held = [layer[:, rows] for layer in held]
        written(cache, held, len(rows), 1)
    assert cache.length == CAPACITY


def test_rows_that_go_on_stay_at_their_places_but_for_those_that_fill_gaps():
    for number in range(1, 2**6):
        ended = torch.tensor([not number >> row & 1 for row in range(6)])
        live = closed_up(ended).tolist()
        assert sorted(live) == torch.where(~ended)[0].tolist()
        assert all(row == place or row >= len(live) for place, row in enumerate(live))


def test_a_key_that_was_rotated_in_fp32_is_kept_as_attention_reads_it():
    cache = DecodeCache()
    for num_tokens in (PROMPT, 1):
        key, value = torch.randn(N, K, num_tokens, D), torch.randn(N, K, num_tokens, D).bfloat16()
        keys, values = cache.update(key, value, 0)
        assert keys.dtype == values.dtype == torch.bfloat16
        assert torch.equal(keys[:, :, -num_tokens:], key.bfloat16())
        cache.advance(num_tokens)
        if num_tokens == PROMPT:
            cache.repeat_rows(1, CAPACITY)
