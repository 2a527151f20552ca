r"""How much the completions of a group differ at each position, over the full vocabulary (TW-GRPO, arXiv 2505.24718).

At position t, with p_i the distribution of completion i's next word, and uniform past its end (logp = −log |V|):

- m = mean_i log p_i (a mean of log-probs, not of probabilities)
- kl_i = Σ_v exp(d_v) − d_v − 1 with d = clamp(m − log p_i, ±11)
- k_t = mean_i kl_i

The sum over v is not weighted by p. Words that may not be sampled are outside V, for every completion alike.

Logits exist for ``chunk_size`` rows (or for one position of all G completions) at a time, forward and backward: no
tensor of size G·T·V. The rows of the factual pass are read again, so the price is one more run of the head alone.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ktr.token_head import log_probs
from ktr.types import Distributions

_LARGEST_DIFFERENCE = 11.0


class PositionDivergence:
    """k_t of one group. ``detach``: as a constant, the sound form; else with gradient, as released."""

    def __init__(self, detach: bool = True) -> None:
        self.detach = detach

    def __call__(self, distributions: Distributions) -> Float[Tensor, " T"]:
        if self.detach:
            with torch.no_grad():
                return _divergences(distributions.detach())
        return _divergences(distributions)


def _divergences(distributions: Distributions) -> Float[Tensor, " T"]:
    mask_GT = distributions.completion_mask_GT.to(distributions.hidden_ND.device)
    rows_GT = mask_GT.flatten().cumsum(0).view_as(mask_GT) - 1  # of each token, where there is one
    positions_per_chunk = max(1, distributions.chunk_size // len(mask_GT))
    chunks = []
    for mask_GC, rows_GC in zip(
        mask_GT.split(positions_per_chunk, dim=1), rows_GT.split(positions_per_chunk, dim=1), strict=True
    ):
        arguments = distributions, rows_GC[mask_GC], mask_GC
        if torch.is_grad_enabled():  # compute the chunk's logits again in backward, rather than keep them
            chunks.append(checkpoint(_of_chunk, *arguments, use_reentrant=False))
        else:
            chunks.append(_of_chunk(*arguments))
    return torch.cat(chunks)


def _of_chunk(
    distributions: Distributions, rows_n: Int[Tensor, " n"], mask_GC: Bool[Tensor, "G C"]
) -> Float[Tensor, " C"]:
    logps_nV = log_probs(distributions, rows_n)
    num_words = logps_nV.shape[1] - len(distributions.banned_ids)
    logps_GCV = logps_nV.new_full((*mask_GC.shape, logps_nV.shape[1]), -math.log(num_words))
    logps_GCV[mask_GC] = logps_nV
    logps_GCV = logps_GCV.index_fill(2, distributions.banned_ids, 0.0)  # equal everywhere: they add nothing
    d_GCV = (logps_GCV.mean(0, keepdim=True) - logps_GCV).clamp(-_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE)
    return (torch.expm1(d_GCV) - d_GCV).sum(2).mean(0)
