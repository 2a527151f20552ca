"""Prompts of Qwen2.5-VL: a block of placeholders for each medium, placed by the seconds of the sampled frames."""

from collections.abc import Sequence

from jaxtyping import Bool, Int
from torch import Tensor

from ktr.errors import TooLongMedia
from ktr.policy.encoder import Encoder
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.types import Medium, VideoQuestion


class PromptEncoder(Encoder):
    """The encoder of a Qwen2.5-VL folder. One second is ``tokens_per_second`` of its config positions."""

    def _positions(
        self, question: VideoQuestion, visual_P: Bool[Tensor, " P"], media: Sequence[Medium]
    ) -> Int[Tensor, "3 P"]:
        self._check_duration(question, media, num_text=int((~visual_P).sum()))
        return mrope_positions(visual_P, media, self._videos.merge_size, self.vision_config.tokens_per_second)

    def _check_duration(self, question: VideoQuestion, media: Sequence[Medium], num_text: int) -> None:
        """Before positions are made: those of a frame rate near 0 would overflow."""
        positions_per_second = self.vision_config.tokens_per_second
        spans = [(m.grid_thw[0] - 1) * m.seconds_per_patch * positions_per_second for m in media]
        if (last := num_text + sum(spans)) >= self._max_position:
            longest = spans.index(max(spans))
            reason = (
                f"at {media[longest].seconds_per_patch:.4g} s from patch to patch its prompt reaches position "
                f"{last:.4g}, and the model has {self._max_position} beside an answer"
            )
            raise TooLongMedia(question.media[longest].path, reason)
