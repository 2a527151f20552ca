"""A reward that random completions earn in part, so that small runs have a gradient."""

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.types import RolloutGroup


class ShareOfEvenTokens:
    """The share of tokens with an even id."""

    name = "format"

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        return torch.stack([(c.token_ids_T % 2 == 0).float().mean() for c in group.completions])
