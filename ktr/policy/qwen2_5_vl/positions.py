"""M-RoPE positions by the original Qwen2.5-VL rule.

Text counts on in all three rows; a vision block takes (time, height, width) coordinates that start where the text
left off; text after it goes on at the *largest* position of the block plus one. The published checkpoints were trained
so and vLLM computes it so. Releases of transformers from 5.3 go on at max(height, width) instead, which moves every
later token and changes log-probs by up to 2 nats: hence our own positions, passed explicitly in every call.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ktr.types import Medium


def mrope_positions(
    visual_P: Bool[Tensor, " P"], media: Sequence[Medium], merge_size: int, tokens_per_second: float
) -> Int[Tensor, "3 P"]:
    """Positions of a prompt whose placeholders, where ``visual_P`` is True, are a block for each of ``media`` in order.

    One second is ``tokens_per_second`` positions, rounded down as in the original code.
    """
    blocks = []
    for medium in media:
        num_patches, height, width = medium.grid_thw
        # In double precision throughout, as vLLM gets it: 5 · 0.7 · 2 is 7, and 6 where 0.7 was once rounded to single.
        times = torch.arange(num_patches, dtype=torch.float64) * (medium.seconds_per_patch * tokens_per_second)
        axes = times.long(), torch.arange(height // merge_size), torch.arange(width // merge_size)
        blocks.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1))
    return lay_out(visual_P, blocks)


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
