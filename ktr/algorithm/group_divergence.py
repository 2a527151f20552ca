r"""Token weights by how much the completions of a group differ there (TW-GRPO, arXiv 2505.24718).

With k_t the divergence of the G next-word distributions at position t (``scoring.group_divergence``):

    n_t = (k_t − min_t k) / (max_t k − min_t k + 1e-8),    w[i,t] = 1 + (α − 1) · n_t

the same for all G completions, α = 1.7. At α = 1 all weights are exactly 1.

Assumptions: a position is compared with itself across completions, whatever each has written there; t runs over the
longest completion of the group, so that min and max see positions that only few completions reach. The paper's code
lets gradients flow through w: here they do where ``divergence`` keeps them, and by default w is a constant.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.types import Distributions, TokenWeights


class GroupDivergence(TokenWeighting):
    """Weights from 1, where completions agree most, to ``alpha``, where they differ most.

    ``divergence`` gives k_t from a group's full distributions, which the factual scores must carry.
    """

    def __init__(self, divergence: Callable[[Distributions], Float[Tensor, " T"]], alpha: float = 1.7) -> None:
        self.divergence, self.alpha = divergence, alpha

    def __call__(self, group: GroupScores) -> TokenWeights:
        if group.factual.distributions is None:
            raise ValueError("the factual view was scored without distributions, which the divergence is made of")
        k_T = self.divergence(group.factual.distributions)
        weights_GT = torch.where(group.completion_mask_GT, divergence_weights(k_T, self.alpha), 0.0)
        scores_GT = torch.where(group.completion_mask_GT, k_T.detach(), 0.0)
        return TokenWeights(weights_GT, scores={"group_divergence": scores_GT})


def divergence_weights(k_T: Float[Tensor, " T"], alpha: float) -> Float[Tensor, " T"]:
    """1 + (α − 1)·n_t, n_t the divergences scaled to [0, 1] over the positions."""
    low, high = k_T.min(), k_T.max()
    return 1 + (alpha - 1) * (k_T - low) / (high - low + 1e-8)
