"""Prompts of Qwen3-VL: each temporal patch of a video is a block of its own behind its time, written as text."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool, Int
from torch import Tensor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from ktr.policy.encoder import PLACEHOLDERS, Encoder
from ktr.policy.mrope import block_positions, lay_out
from ktr.types import Medium, VideoQuestion


class Qwen3VLEncoder(Encoder):
    """The encoder of a Qwen3-VL folder, mixture of experts or not.

    The times are those of the *sampled* frames: of each temporal patch the mean of its first and its last. As
    transformers writes it from 5.10 on, the blocks stand inside the template's own pair of vision marks.
    """

    video_processor = Qwen3VLVideoProcessor
    bounds_all_frames = True
    # The processor raises above 200 too, but for sides that it has scaled up to 32 pixels and cut to whole ones before.
    max_aspect_ratio = 190

    def _written(self, medium: Medium) -> str:
        if medium.kind == "image":
            return PLACEHOLDERS["image"]
        block = f"<|vision_start|>{PLACEHOLDERS['video']}<|vision_end|>"
        return "".join(f"<{seconds:.1f} seconds>{block}" for seconds in medium.seconds)

    def _blocks(self, medium: Medium) -> Sequence[Medium]:
        num_patches, height, width = medium.grid_thw
        return [replace(medium, grid_thw=(1, height, width))] * num_patches

    def _positions(
        self, question: VideoQuestion, visual_P: Bool[Tensor, " P"], media: Sequence[Medium]
    ) -> Int[Tensor, "3 P"]:
        blocks = [block for medium in media for block in self._blocks(medium)]
        return lay_out(visual_P, [block_positions(block.grid_thw, self._videos.merge_size) for block in blocks])
