r"""Advantages of single tokens, against the baseline with the least variance (arXiv 2602.07078).

A[i,t] = R_i − B_t,    B_t = Σ_i R_i W[i,t] / Σ_i W[i,t],    W[i,t] = Σ_{s ≤ t} (1 − 2 π(y_s) + Σ_v π(v)²)

over the completions of the group that reach t. W is the squared norm, summed so far, of the gradient of log π(y) with
respect to the logits: where a completion has already been surprising its reward counts for more in the baseline. It
costs neither rollouts nor passes.

Assumptions: gradients of different tokens are taken for uncorrelated, and their norm for that of the logits'. A
completion is part of its own baseline. Where one completion alone goes on, it is its own baseline, and the tail of the
longest learns nothing.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.advantage import Advantage, CentredAdvantage
from ktr.token_head import sums_of_squares
from ktr.types import TokenScores


@runtime_checkable
class TokenAdvantage(Advantage, Protocol):
    """An advantage that also says, of each token, how much better what follows is than expected there."""

    def of_tokens(
        self, rewards_G: Float[Tensor, " G"], scores: TokenScores, mask_GT: Bool[Tensor, "G T"]
    ) -> Float[Tensor, "G T"]: ...


class OptimalTokenBaseline(CentredAdvantage):
    """As advantage of a completion its reward less the mean; of a token its reward less B_t."""

    @torch.no_grad()
    def of_tokens(
        self, rewards_G: Float[Tensor, " G"], scores: TokenScores, mask_GT: Bool[Tensor, "G T"]
    ) -> Float[Tensor, "G T"]:
        """0 off the mask, and everywhere for equal rewards. ``scores`` are the factual ones, with distributions."""
        if scores.distributions is None:
            raise ValueError("the factual view was scored without distributions, which the baseline is made of")
        if (rewards_G == rewards_G[0]).all():  # they are on the host
            return torch.zeros_like(scores.logps_GT)
        squares_GT = torch.zeros_like(scores.logps_GT).masked_scatter(mask_GT, sums_of_squares(scores.distributions))
        norms_GT = (1 - 2 * scores.logps_GT.exp() + squares_GT).clamp(min=0)
        return token_advantages(rewards_G.to(norms_GT), norms_GT, mask_GT)


def token_advantages(
    rewards_G: Float[Tensor, " G"], norms_GT: Float[Tensor, "G T"], mask_GT: Bool[Tensor, "G T"]
) -> Float[Tensor, "G T"]:
    """R − B from the squared norm of each token's gradient."""
    energy_GT = torch.where(mask_GT, torch.where(mask_GT, norms_GT, 0.0).cumsum(1), 0.0)
    baseline_T = (rewards_G[:, None] * energy_GT).sum(0) / (energy_GT.sum(0) + 1e-8)
    return torch.where(mask_GT, rewards_G[:, None] - baseline_T, 0.0)
