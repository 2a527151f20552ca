"""Prompts of Qwen2-VL: a block of placeholders for each medium; one temporal patch is one position of time."""

from collections.abc import Sequence

from jaxtyping import Bool, Int
from torch import Tensor

from ktr.policy.encoder import Encoder
from ktr.policy.mrope import block_positions, lay_out
from ktr.types import Medium, VideoQuestion


class Qwen2VLEncoder(Encoder):
    """The encoder of a Qwen2-VL folder: its positions know no seconds."""

    def _positions(
        self, question: VideoQuestion, visual_P: Bool[Tensor, " P"], media: Sequence[Medium]
    ) -> Int[Tensor, "3 P"]:
        return lay_out(visual_P, [block_positions(m.grid_thw, self._videos.merge_size) for m in media])
