"""Whether a completion keeps to the asked form."""

import re
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.types import RolloutGroup

_UNTAGGED = r"((?:(?!</?(?:think|answer)>).)*)"


class Format:
    """1 for a completion that is, as a whole, ``<think>…</think>`` and then ``<answer>…</answer>``; else 0.

    Each tag stands there once, something between the tags of a pair, and nothing but spaces outside.
    """

    name = "format"
    form: ClassVar = re.compile(rf"\s*<think>{_UNTAGGED}</think>\s*<answer>{_UNTAGGED}</answer>\s*", re.DOTALL)

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        matches = [self.form.fullmatch(completion.text) for completion in group.completions]
        return torch.tensor([float(match is not None and all(map(str.strip, match.groups()))) for match in matches])


class ReleasedFormat(Format):
    """As released with Video-R1: anything may stand between the first tag and the last, also nothing, or more tags."""

    form: ClassVar = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
