"""A prompt whose videos have their frames in another order, as a rollout engine is to see it."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ktr.attribution.views import ShuffledFrames
from ktr.scoring.frame_orders import media_orders
from ktr.types import PromptInputs


def shuffled_prompt(prompt: PromptInputs, view: ShuffledFrames, frames_per_patch: int, seed: int) -> PromptInputs:
    """The prompt with its patches permuted as ``apply_view`` shows them under the same ``view`` and ``seed``.

    Ids and positions stay, and so do the media that ``view`` leaves as they are.
    """
    orders = media_orders(view, prompt.media, frames_per_patch, seed)
    pixels = [
        pixels_NC if order is None else _reordered(pixels_NC, medium.grid_thw[0], order)
        for pixels_NC, medium, order in zip(prompt.by_medium(prompt.pixels_NC), prompt.media, orders, strict=True)
    ]
    return replace(prompt, pixels_NC=torch.cat(pixels))


def _reordered(pixels_NC: Float[Tensor, "N C"], num_patches: int, order: Int[Tensor, " F"]) -> Float[Tensor, "N C"]:
    """A video's patches with its frames, or as many temporal patches, in a new order."""
    frames_per_patch = len(order) // num_patches
    # A row of patches is laid out (channel, frame, y, x): take the frames out, permute them, put them back.
    pixels = pixels_NC.unflatten(0, (num_patches, -1)).unflatten(2, (3, -1) if frames_per_patch > 1 else (1, -1))
    frames = pixels.unflatten(3, (frames_per_patch, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)[order]
    frames = frames.unflatten(0, (num_patches, frames_per_patch)).permute(0, 2, 3, 1, 4)
    return frames.reshape(pixels_NC.shape)
