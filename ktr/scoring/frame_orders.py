"""New orders for the frames of a video: random, reversed, or by segments; never, unless asked, the order they had."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from ktr.attribution.views import Order, ShuffledFrames
from ktr.types import Medium

_NUM_SEGMENTS = 4


def media_orders(
    view: ShuffledFrames, media: Sequence[Medium], frames_per_patch: int, seed: int
) -> list[Int[Tensor, " F"] | None]:
    """The order that ``view`` gives the frames, or temporal patches, of each medium; None for one that stays."""
    generator = order_generator(seed, view.draw)
    per_patch = 1 if view.granularity == "temporal_patch" else frames_per_patch
    return [
        frame_order(view.order, medium.grid_thw[0] * per_patch, generator) if moves else None
        for medium, moves in zip(media, view.changes(media), strict=True)
    ]


def frame_order(order: Order, num_frames: int, generator: torch.Generator) -> Int[Tensor, " F"]:
    """A permutation of ``num_frames`` frames, or temporal patches, that is not the identity.

    ``segmental`` cuts the video into four runs and shuffles the runs, so that order is kept inside each.
    ``unrestricted`` is any permutation, the identity too, as in released code. Raises ValueError on a single frame,
    which has no other order.
    """
    if num_frames < 2:
        raise ValueError("a video of one temporal patch has no order to change: raise video.min_frames")
    if order == "unrestricted":
        return torch.randperm(num_frames, generator=generator)
    if order == "reverse":
        return torch.arange(num_frames).flip(0)
    num_segments = num_frames if order == "random" else min(_NUM_SEGMENTS, num_frames)
    segments = torch.arange(num_frames).tensor_split(num_segments)
    while True:
        shuffled = torch.randperm(num_segments, generator=generator)
        if not torch.equal(shuffled, torch.arange(num_segments)):
            return torch.cat([segments[i] for i in shuffled.tolist()])


def order_generator(seed: int, draw: int) -> torch.Generator:
    """The generator of one draw of a question: draws differ, and the same seed and draw give the same order."""
    return torch.Generator().manual_seed(seed * 1_000_003 + draw)
