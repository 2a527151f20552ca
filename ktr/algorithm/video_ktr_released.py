r"""Video-KTR as its released code computes it (arXiv 2601.19686), where that differs from the paper.

Over the N valid tokens of a group (all completions together, EOS included), for each signal with scores s:

    m[i,t] = 1 if s[i,t] ≥ q, q the (1 − r) quantile of the N scores (linear interpolation), r = 0.2

and the mask of the loss is the union. Ties at q are kept; so are scores of 0 or less, where the quantile is that low.
The scores are H, logp − logp_masked and logp − logp_shuffled, both *signed*. An image has no temporal signal.

    L = (1/G) Σ_i Σ_t m[i,t] (−ρ A_i + β·k3[i,t]) / Σ_t m[i,t]

a sequence without a selected token being NaN there and 0 here. The parts of the composition ``algorithm=
video_ktr_released`` that are written down elsewhere: ``shift=signed`` (``attribution.signals``); ``masking=
drop_compact`` (positions close up over the gap) and ``order=unrestricted`` (one permutation of frames before they are
paired, which may be the identity; ``attribution.views``); ``kl_scope=selected`` and ``denominator=selected``
(``algorithm.loss``, ``algorithm.reductions``); ``count=selected`` (the length reward; ``rewards.length``).
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.weighting import KeyTokens
from ktr.attribution.group_scores import GroupScores
from ktr.types import TokenWeights


class GroupQuantile:
    """Every token at or above the (1 − ``ratio``) quantile of its group, whatever the sign of its score."""

    floor: ClassVar[float] = 0.0
    eos_selectable = True

    def __init__(self, ratio: float = 0.2) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio={ratio}: the selected share of the tokens lies in (0, 1]")
        self.ratio = ratio

    def __call__(
        self,
        scores_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> Bool[Tensor, "G T"]:
        threshold = scores_GT[completion_mask_GT].quantile(1 - self.ratio)
        return completion_mask_GT & (scores_GT >= threshold)


class ReleasedKeyTokens(KeyTokens):
    """``KeyTokens`` without the signals whose views were not scored: an image's temporal one selects nothing.

    Else its scores, all 0, would tie at the quantile, and all be kept.
    """

    def __call__(self, group: GroupScores) -> TokenWeights:
        acting = {
            name: signal for name, signal in self.signals.items() if all(view in group.views for view in signal.views)
        }
        if self.signals and not acting:
            return TokenWeights(torch.zeros_like(group.factual.logps_GT))
        return KeyTokens(acting, self.selection, self.combine)(group)
