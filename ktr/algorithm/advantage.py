r"""Group-relative advantages, over the G completions of one question.

- ``GroupAdvantage``: A_i = (r_i − mean(r)) / (std(r) + ε) (GRPO, arXiv 2402.03300).
- ``CentredAdvantage``: A_i = r_i − mean(r) (Dr. GRPO, arXiv 2503.20783), without the deviation, which makes a question
  count the more the more its completions agree. Its loss divides by a constant as well (``loss=dr_grpo``).

Assumption: rewards are comparable only inside a group, and a group whose rewards are all equal teaches nothing: its
advantages are exactly zero, also where the mean of equal floats does not round to their value, and for G = 1.
"""

from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Std = Literal["unbiased", "biased"]


@runtime_checkable
class Advantage(Protocol):
    """How much better a completion is than the others of its question; 0 for all where nothing is to be learned."""

    def __call__(self, rewards_G: Float[Tensor, " G"]) -> Float[Tensor, " G"]: ...


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


class CentredAdvantage:
    """Rewards of a group less their mean."""

    def __call__(self, rewards_G: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
        if (rewards_G == rewards_G[0]).all():
            return torch.zeros_like(rewards_G)
        return rewards_G - rewards_G.mean()
