"""The cache holds what one that is made anew at every token would, through rows and prompts that are dropped."""

import torch
from torch import Tensor

from ktr.policy.decode_attention import SharedPrompts
from ktr.policy.packed_row import GroupSpan, PackedLayout
from ktr.rollout.transformers.decode_cache import DecodeCache, closed_up

N, K, D, LAYERS, CAPACITY = 3, 2, 4, 2, 4
LENGTHS = [5, 2, 4]
PACKED = PackedLayout(tuple(GroupSpan(sum(LENGTHS[:b]), LENGTHS[b], ()) for b in range(N)))


def written(cache: DecodeCache, held: list[Tensor], num_rows: int, num_tokens: int) -> None:
    """Write random tokens to ``cache`` and to ``held``, all that each layer has; both must then hold the same."""
    for layer in range(LAYERS):
        key, value = torch.randn(2, num_rows, K, num_tokens, D)
        keys, values = cache.update(key, value, layer)
        held[layer] = torch.cat([held[layer], torch.stack([key, value])], dim=3)
        assert torch.equal(torch.stack([keys, values]), held[layer])


def test_rows_that_are_dropped_leave_to_the_others_what_they_hold_and_their_prompts():
    cache, of_prompts = DecodeCache(PACKED), [torch.empty(2, 1, K, 0, D)] * LAYERS
    written(cache, of_prompts, 1, PACKED.length)
    assert cache.predictors == [4, 6, 10]
    cache.open_rows(num_completions=4, capacity=CAPACITY)
    owners, held = torch.arange(N).repeat_interleave(4), [torch.empty(2, 4 * N, K, 0, D)] * LAYERS
    written(cache, held, 4 * N, 1)
    cache.advance()
    for rows in (torch.tensor([0, 11, 2, 3, 10, 5, 6]), torch.tensor([1, 6, 2, 4]), torch.tensor([1])):
        cache.keep_rows(rows)
        owners, held = owners[rows], [layer[:, rows] for layer in held]
        written(cache, held, len(rows), 1)
        cache.advance()
        shared = cache.attention["prompts"]
        assert isinstance(shared, SharedPrompts) and len(cache.mask) == len(owners.unique())
        for number, owner in enumerate(owners.tolist()):
            place, beside = shared.places_2N[:, number].tolist()
            assert shared.rows_BG[place, beside] == number
            seen = cache.mask[place].flatten()
            assert seen.tolist() == [True] * LENGTHS[owner] + [False] * (len(seen) - LENGTHS[owner])
            for (keys, values), packed in zip(shared.layers, of_prompts, strict=True):
                own = packed[:, 0].split(LENGTHS, 2)[owner]
                assert torch.equal(torch.stack([keys[place], values[place]])[:, :, : LENGTHS[owner]], own)


def test_rows_that_go_on_stay_at_their_places_but_for_those_that_fill_gaps():
    for number in range(1, 2**6):
        ended = torch.tensor([not number >> row & 1 for row in range(6)])
        live = closed_up(ended).tolist()
        assert sorted(live) == torch.where(~ended)[0].tolist()
        assert all(row == place or row >= len(live) for place, row in enumerate(live))


def test_a_key_that_was_rotated_in_fp32_is_kept_as_attention_reads_it():
    cache = DecodeCache(PACKED)
    for rows, num_tokens in ((1, PACKED.length), (N, 1)):
        key, value = torch.randn(rows, K, num_tokens, D), torch.randn(rows, K, num_tokens, D).bfloat16()
        keys, values = cache.update(key, value, 0)
        assert keys.dtype == values.dtype == torch.bfloat16
        assert torch.equal(keys[:, :, -num_tokens:], key.bfloat16())
        if rows == 1:
            cache.open_rows(num_completions=1, capacity=CAPACITY)
