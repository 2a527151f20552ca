r"""Soft weights from the ranks of tokens, in place of a choice between 1 and 0.

Video-KTR (arXiv 2601.19686) compares its binary mask with four soft forms. The tokens of a completion are ranked by
score, u = 0 the highest and u = 1 the lowest, and

w = 1 + γ (f(u) − f̄)

- sigmoid:     f = σ(k (½ − u)), f̄ = ½, k = 20, γ = 1.5: the form of the authors' scripts.
- linear:      f = 1 − u,        f̄ = ½.
- exponential: f = e^(−k u),     f̄ the mean of f over the tokens; k = 5 in conf/.
- softmax:     f = N·e^(−k u) / Σ e^(−k u) over the N tokens, so f̄ = 1; k = 5 and γ = 1 in conf/: a distribution.

The last three are named in the paper without a formula: these are ours, made so that all four are 1 everywhere at
γ = 0 and weights of a completion have mean 1 (the sigmoid's too where no scores tie): they say where the update goes
and not how large it is. Softmax at γ is the exponential at γ/f̄: what differs is how far the first tokens rise.

Assumptions: tokens of one score share their mean rank, so a signal that did not act (all scores 0 or less, an image's
temporal signal) weighs every token 1 and not the earlier ones more; so does a completion of one token. EOS is not
ranked, and has weight 1, unless ``eos_selectable``.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.attribution.selection import Scope

Curve = Literal["sigmoid", "linear", "exponential", "softmax"]
# Above these a token of low rank could get a negative weight, and be pushed the other way.
LARGEST_GAMMA: Mapping[str, float] = {"sigmoid": 2.0, "linear": 2.0, "exponential": 2.0, "softmax": 1.0}


class SoftRanks:
    """Weights of the completion's tokens by the rank of their score. Raises ValueError on a γ that turns one negative.

    ``sharpness`` is k; the linear form has none. ``scope="group"`` ranks all completions together.
    """

    floor: ClassVar[float] = 1.0

    def __init__(
        self,
        curve: Curve = "sigmoid",
        gamma: float = 1.5,
        sharpness: float = 20.0,
        scope: Scope = "completion",
        eos_selectable: bool = False,
    ) -> None:
        if curve not in get_args(Curve) or scope not in get_args(Scope):
            raise ValueError(f"curve={curve!r}, scope={scope!r}: choose from {get_args(Curve)} and {get_args(Scope)}")
        if not 0 <= gamma <= LARGEST_GAMMA[curve] or sharpness <= 0:
            raise ValueError(
                f"gamma={gamma}, sharpness={sharpness}: curve={curve} takes a gamma in [0, {LARGEST_GAMMA[curve]:g}], "
                "above which weights turn negative, and a sharpness above 0"
            )
        self.curve: Curve = curve
        self.gamma = gamma
        self.sharpness = sharpness
        self.scope: Scope = scope
        self.eos_selectable = eos_selectable

    def __call__(
        self,
        scores_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]:
        """Weights by one signal, 0 off the completion mask."""
        ranked_GT = completion_mask_GT if self.eos_selectable else completion_mask_GT & ~eos_GT
        rows = (1, -1) if self.scope == "group" else scores_GT.shape
        ranked = ranked_GT.reshape(rows)
        above_mean = self._above_mean(_ranks(scores_GT.reshape(rows), ranked), ranked)
        weights = 1 + self.gamma * torch.where(ranked, above_mean, 0.0)
        return (weights.reshape(scores_GT.shape) * completion_mask_GT).to(scores_GT.dtype)

    def _above_mean(self, ranks: Float[Tensor, "R N"], ranked: Bool[Tensor, "R N"]) -> Float[Tensor, "R N"]:
        """f(u) − f̄."""
        if self.curve == "sigmoid":
            return torch.sigmoid(self.sharpness * (0.5 - ranks)) - 0.5
        if self.curve == "linear":
            return 0.5 - ranks
        num_ranked = ranked.sum(1, keepdim=True)
        if self.curve == "softmax":
            return num_ranked * (-self.sharpness * ranks).masked_fill(~ranked, -torch.inf).softmax(1) - 1
        decay = torch.exp(-self.sharpness * ranks)
        return decay - (decay * ranked).sum(1, keepdim=True) / num_ranked.clamp(min=1)


def _ranks(scores: Float[Tensor, "R N"], ranked: Bool[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """0 for the highest score of a row and 1 for the lowest, equal scores at their mean; in float64."""
    # What a signal did not act on is 0 or less, and all alike. Tokens that are not ranked come below all others.
    acted = torch.where(ranked, scores.clamp(min=0), -1.0)
    ascending = acted.sort(dim=1).values
    below = torch.searchsorted(ascending, acted)
    up_to = torch.searchsorted(ascending, acted, right=True)
    places = acted.shape[1] - (below + up_to + 1).double() / 2  # 0 for the first of them, half-way among equals
    last = ranked.sum(1, keepdim=True) - 1
    return torch.where(last > 0, places / last.clamp(min=1), 0.5)
