"""M-RoPE positions by the original Qwen2.5-VL rule.

Text counts on in all three rows; a vision block takes (time, height, width) coordinates that start where the text
left off; text after it goes on at the *largest* position of the block plus one. The published checkpoints were trained
so and vLLM computes it so. Releases of transformers from 5.3 go on at max(height, width) instead, which moves every
later token and changes log-probs by up to 2 nats: hence our own positions, passed explicitly in every call.
"""

import torch
from jaxtyping import Int
from torch import Tensor


def mrope_positions(
    input_ids_P: Int[Tensor, " P"],
    visual_token_id: int,
    grid_thw: tuple[int, int, int],
    merge_size: int,
    seconds_per_patch: float,
    tokens_per_second: float,
) -> Int[Tensor, "3 P"]:
    """Positions of a prompt with one contiguous block of visual placeholders.

    ``grid_thw`` counts unmerged patches. ``seconds_per_patch`` is the time between two temporal patches of the sampled
    frames (0 for an image); one second is ``tokens_per_second`` positions, rounded down as in the original code.
    """
    (visual_N,) = torch.where(input_ids_P == visual_token_id)
    num_frames, height, width = grid_thw[0], grid_thw[1] // merge_size, grid_thw[2] // merge_size
    first, num_visual = int(visual_N[0]), num_frames * height * width
    if len(visual_N) != num_visual or int(visual_N[-1]) - first + 1 != num_visual:
        raise ValueError(f"expected {num_visual} visual tokens in one block for grid {grid_thw}, found {len(visual_N)}")

    # In double precision throughout, as vLLM gets it: 5 · 0.7 · 2 is 7, and 6 where 0.7 was once rounded to single.
    times = (torch.arange(num_frames, dtype=torch.float64) * (seconds_per_patch * tokens_per_second)).long()
    block = torch.stack(torch.meshgrid(times, torch.arange(height), torch.arange(width), indexing="ij")).reshape(3, -1)
    block = block + first
    num_after = len(input_ids_P) - first - num_visual
    after = torch.arange(num_after) + int(block.max()) + 1
    return torch.cat([torch.arange(first).expand(3, -1), block, after.expand(3, -1)], dim=1)
