"""A bonus for right answers of a moderate length."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError
from ktr.rewards.accuracy import Accuracy
from ktr.types import RolloutGroup


class Length:
    """``bonus`` for each completion with accuracy > 0.1 and ``minimum`` to ``maximum`` tokens, both included.

    Only where more than one completion of the group has such an accuracy (Video-R1, 2503.21776). The length is that of
    the completion, EOS included, whatever tokens the loss weighs; with ``count="selected"`` it is the number of the
    tokens with a weight, as Video-KTR's released code has it by mistake, and 0 where none were weighed.
    """

    name = "length"

    def __init__(
        self,
        accuracy: Accuracy,
        minimum: int = 320,
        maximum: int = 512,
        bonus: float = 0.2,
        count: Literal["completion", "selected"] = "completion",
    ) -> None:
        if not 0 <= minimum <= maximum:
            raise ConfigError(f"minimum={minimum} must be from 0 to maximum={maximum}")
        self.accuracy, self.minimum, self.maximum, self.bonus = accuracy, minimum, maximum, bonus
        self.reads_selection = count == "selected"

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        right_G = self.accuracy(group) > 0.1
        lengths_G = group.completion_mask_GT.sum(dim=1)
        if self.reads_selection:
            lengths_G = torch.zeros_like(lengths_G) if group.num_selected_G is None else group.num_selected_G
        moderate_G = (self.minimum <= lengths_G) & (lengths_G <= self.maximum)
        return self.bonus * (right_G & moderate_G & (right_G.sum() > 1)).to(torch.float32)
