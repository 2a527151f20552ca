r"""High-entropy minority tokens, with a threshold over the batch (arXiv 2506.01939).

    w[i,t] = 1 if H[i,t] ≥ τ, else 0,   τ such that the top r of all tokens of the batch are at or above it, r = 20 %

H is the entropy of the policy's next-word distribution. The entropy signal alone (``attribution=e``) takes the top r of
*each completion* (or, with ``selection.scope=group``, of each group): a local threshold, which gives every completion
its share of the gradient and needs no pass of its own. The paper's gives most of it to the completions that are
uncertain as a whole.

Assumptions: the batch is the groups that are learned from, on all ranks; ties at τ are kept; EOS counts as any token.
A threshold over the batch must be known before the first loss is, so it costs one factual pass without gradient.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.types import TokenWeights


@runtime_checkable
class BatchWeighting(TokenWeighting, Protocol):
    """A weighting that must see the entropies of the whole batch before it can weigh one group."""

    def for_batch(self, entropies: Sequence[Float[Tensor, " _"]]) -> TokenWeighting:
        """The weighting of a batch, given the entropies of each group's completion tokens, of all ranks."""
        ...


class BatchEntropy(TokenWeighting):
    """Tokens whose entropy is among the top ``ratio`` of the batch count, the others do not."""

    def __init__(self, ratio: float = 0.2, threshold: float | None = None) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio={ratio}: the selected share of the tokens lies in (0, 1]")
        self.ratio, self.threshold = ratio, threshold

    def for_batch(self, entropies: Sequence[Float[Tensor, " _"]]) -> "BatchEntropy":
        entropies_N = torch.cat([*entropies, torch.empty(0)])
        if not len(entropies_N) or self.ratio == 1:
            return BatchEntropy(self.ratio, -math.inf)
        count = math.ceil(self.ratio * len(entropies_N) - 1e-9)
        return BatchEntropy(self.ratio, entropies_N.topk(count).values[-1].item())

    def __call__(self, group: GroupScores) -> TokenWeights:
        if self.threshold is None or group.factual.entropies_GT is None:
            raise ValueError("a threshold over the batch needs entropies, and for_batch before the first group")
        entropies_GT = torch.where(group.completion_mask_GT, group.factual.entropies_GT.detach(), 0.0)
        selected_GT = group.completion_mask_GT & (entropies_GT >= self.threshold)
        return TokenWeights(selected_GT.to(entropies_GT.dtype), {"entropy": selected_GT}, {"entropy": entropies_GT})
