"""M-RoPE positions by the original Qwen2.5-VL rule: the time of a visual token is absolute."""

from collections.abc import Sequence

from jaxtyping import Bool, Int
from torch import Tensor

from ktr.policy.mrope import block_positions, lay_out
from ktr.types import Medium


def mrope_positions(
    visual_P: Bool[Tensor, " P"], media: Sequence[Medium], merge_size: int, tokens_per_second: float
) -> Int[Tensor, "3 P"]:
    """Positions of a prompt whose placeholders, where ``visual_P`` is True, are a block for each of ``media`` in order.

    One second is ``tokens_per_second`` positions, rounded down as in the original code.
    """
    return lay_out(
        visual_P, [block_positions(m.grid_thw, merge_size, m.seconds_per_patch * tokens_per_second) for m in media]
    )
