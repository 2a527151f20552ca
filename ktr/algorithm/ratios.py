r"""The ratio ρ of the policy to the one that sampled, which the surrogate clips.

- ``TokenRatio``: ρ[i,t] = π(y_t) / π_old(y_t), each token's own (PPO, GRPO).
- ``SequenceRatio``: ρ[i,t] = s_i = exp(mean_t log π/π_old), the same for all tokens of a completion (GSPO, arXiv
  2507.18071), in the paper's form for tokens, sg[s_i] · π(y_t)/sg[π(y_t)], which has the value s_i and hands its
  gradient to each token alone. With weight 1 on each token and ``sequence_mean`` that is the gradient of
  −(1/G) Σ_i min(s_i A_i, clip(s_i) A_i); with other weights each token's part of it counts by its own weight.

Assumption: log-ratios are clamped to ±20, so that a policy far from its rollouts gives a large loss and not an infinite
one.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class Ratio(Protocol):
    """ρ of each token, with the gradient that the loss is to have; log-probs are 0 off the mask."""

    def __call__(
        self,
        logps_GT: Float[Tensor, "G T"],
        old_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]: ...


class TokenRatio:
    """exp(logp − old logp)."""

    def __call__(
        self,
        logps_GT: Float[Tensor, "G T"],
        old_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]:
        return (logps_GT - old_logps_GT).clamp(-20, 20).exp()


class SequenceRatio:
    """exp of a completion's mean log-ratio, at each of its tokens."""

    def __call__(
        self,
        logps_GT: Float[Tensor, "G T"],
        old_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]:
        lengths_G1 = completion_mask_GT.sum(1, keepdim=True).clamp(min=1)
        mean_G1 = (logps_GT - old_logps_GT).detach().sum(1, keepdim=True) / lengths_G1
        return mean_G1.clamp(-20, 20).exp() * (logps_GT - logps_GT.detach()).exp()
