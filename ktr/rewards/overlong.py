"""A penalty on completions near the longest length: DAPO's soft overlong punishment (arXiv 2503.14476).

With L the length, EOS included, L_max the longest and B the buffer: 0 up to L_max − B, from there linear down to
−``penalty`` at L_max. It is added to the reward, before advantages.
"""

from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError
from ktr.types import RolloutGroup


class SoftOverlong:
    """0 up to ``maximum − buffer`` tokens, −``penalty`` at ``maximum``, and a line between."""

    name = "overlong"

    def __init__(self, maximum: int, buffer: int, penalty: float = 1.0) -> None:
        if not 0 < buffer <= maximum:
            raise ConfigError(f"buffer={buffer}: it is from 1 to maximum={maximum} tokens")
        self.maximum, self.buffer, self.penalty = maximum, buffer, penalty

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        over_G = group.completion_mask_GT.sum(dim=1) - (self.maximum - self.buffer)
        return -self.penalty * (over_G / self.buffer).clamp(0, 1)
