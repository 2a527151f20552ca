"""M-RoPE positions by the original rule, which every family of the Qwen-VL line shares.

Text counts on in all three rows; a block of visual tokens takes (time, height, width) coordinates that start where the
text left off; text after it goes on at the *largest* position of the block plus one. The published checkpoints were
trained so and vLLM computes it so. Releases of transformers from 5.3 go on at max(height, width) instead, which is
another position wherever a block's time goes further: hence our own positions, passed explicitly in every call.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def block_positions(
    grid_thw: tuple[int, int, int], merge_size: int, positions_per_patch: float = 1.0
) -> Int[Tensor, "3 M"]:
    """(time, height, width) of a grid's merged tokens; from one temporal patch to the next ``positions_per_patch``."""
    num_patches, height, width = grid_thw
    # In double precision throughout, as vLLM gets it: 5 · 0.7 · 2 is 7, and 6 where 0.7 was once rounded to single.
    times = (torch.arange(num_patches, dtype=torch.float64) * positions_per_patch).long()
    axes = times, torch.arange(height // merge_size), torch.arange(width // merge_size)
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1)


def lay_out(visual_P: Bool[Tensor, " P"], blocks: Sequence[Int[Tensor, "3 _"]]) -> Int[Tensor, "3 P"]:
    """Text counted one by one, and each block of placeholders by its own coordinates from where the text left off.

    Raises ValueError where the placeholders are other blocks than these.
    """
    sizes = [block.shape[1] for block in blocks]
    (visual_N,) = torch.where(visual_P)
    if len(visual_N) != sum(sizes):
        raise ValueError(f"expected {sum(sizes)} visual tokens in {len(blocks)} blocks, found {len(visual_N)}")
    parts, done, position = [], 0, 0
    for block, places in zip(blocks, visual_N.split(sizes), strict=True):
        first, num_text = int(places[0]), int(places[0]) - done
        if int(places[-1]) - first + 1 != len(places):
            raise ValueError(f"expected {len(places)} visual tokens in one block from token {first} on, found a gap")
        parts += [(torch.arange(num_text) + position).expand(3, -1), block + position + num_text]
        done, position = first + len(places), position + num_text + int(block.max()) + 1
    return torch.cat([*parts, (torch.arange(len(visual_P) - done) + position).expand(3, -1)], dim=1)
