r"""Weights that rise with a token's probability (advantage reweighting, arXiv 2505.12929).

    w[i,t] = α · π(o[i,t]) + 1 − α

The less probable a token, the longer the gradient of its log-prob: a few unlikely ones make most of an update. α = 0 is
GRPO. Probabilities are the policy's at the sampling temperature, and constants of the loss.
"""

import torch

from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.types import TokenWeights


class LikelyTokens(TokenWeighting):
    """``alpha`` is α, from 0 to 1; the paper has 0.3 and 0.1. Raises ValueError outside of that."""

    def __init__(self, alpha: float = 0.3) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}: it lies in [0, 1]")
        self.alpha = alpha

    def __call__(self, group: GroupScores) -> TokenWeights:
        probability_GT = group.factual.logps_GT.detach().exp()
        weights_GT = torch.where(group.completion_mask_GT, self.alpha * probability_GT + 1 - self.alpha, 0.0)
        return TokenWeights(weights_GT, {}, {"probability": torch.where(group.completion_mask_GT, probability_GT, 0.0)})
