"""Whether a completion keeps to the asked form."""

import re

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.types import RolloutGroup

REASONING_THEN_ANSWER = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


class Format:
    """1 for a completion that is, as a whole, ``<think>…</think>`` and then ``<answer>…</answer>``; else 0."""

    name = "format"

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        return torch.tensor([float(bool(REASONING_THEN_ANSWER.fullmatch(c.text))) for c in group.completions])
