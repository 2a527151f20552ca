"""A prompt whose video has its frames in another order, as a rollout engine is to see it."""

from dataclasses import replace

from ktr.attribution.views import ShuffledFrames
from ktr.scoring.frame_orders import frame_order, order_generator
from ktr.types import PromptInputs


def shuffled_prompt(prompt: PromptInputs, view: ShuffledFrames, frames_per_patch: int, seed: int) -> PromptInputs:
    """The prompt with its patches permuted as ``apply_view`` shows them under the same ``view`` and ``seed``.

    Ids and positions stay. Raises ValueError where the video has nothing to permute.
    """
    num_patches, frames_per_patch = prompt.grid_thw[0], 1 if view.granularity == "temporal_patch" else frames_per_patch
    # A row of patches is laid out (channel, frame, y, x): take the frames out, permute them, put them back.
    pixels = prompt.pixels_NC.unflatten(0, (num_patches, -1)).unflatten(2, (3, -1) if frames_per_patch > 1 else (1, -1))
    frames = pixels.unflatten(3, (frames_per_patch, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
    frames = frames[frame_order(view.order, len(frames), order_generator(seed, view.draw))]
    pixels = frames.unflatten(0, (num_patches, frames_per_patch)).permute(0, 2, 3, 1, 4)
    return replace(prompt, pixels_NC=pixels.reshape(prompt.pixels_NC.shape))
