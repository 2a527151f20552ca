r"""Group-relative advantages (GRPO, arXiv 2402.03300).

A_i = (r_i − mean(r)) / (std(r) + ε) over the G completions of one question.

Assumption: rewards are comparable only inside a group, and a group whose rewards are all equal teaches nothing: its
advantages are exactly zero, also where the mean of equal floats does not round to their value, and for G = 1.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Std = Literal["unbiased", "biased"]


class GroupAdvantage:
    """Rewards of a group, standardised. ``std="unbiased"`` divides by G − 1, as the released code; "biased" by G."""

    def __init__(self, eps: float = 1e-4, std: Std = "unbiased") -> None:
        if std not in get_args(Std):
            raise ValueError(f"std={std!r}: choose one of {get_args(Std)}")
        self.eps = eps
        self.std = std

    def __call__(self, rewards_G: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
        if (rewards_G == rewards_G[0]).all():
            return torch.zeros_like(rewards_G)
        std = rewards_G.std(correction=int(self.std == "unbiased"))
        return (rewards_G - rewards_G.mean()) / (std + self.eps)
