r"""Importance weights for tokens that an engine sampled from not quite the trainer's distribution.

An engine and the trainer compute the log-probs of the same weights with other kernels, orders of summation and
precisions. With μ the engine's distribution and π_old the trainer's under the weights that sampled, both recorded for
each sampled token, r[i,t] = π_old(y_t | y_<t) / μ(y_t | y_<t) turns means under μ into means under π_old:

- ``TokenTruncation``: w[i,t] = min(r[i,t], cap). Truncated importance sampling (Yao et al., 2025, *Your efficient RL
  framework secretly brings you off-policy RL training*).
- ``SequenceMask``: w[i,t] = 1 if low ≤ exp(mean_t log r[i,t]) ≤ high, else 0, the same for all tokens of a sequence.
  The length-normalised ratio is that of GSPO (arXiv 2507.18071).

Exact and not: where no cap acts, Σ_y μ(y) w(y) A(y) ∇log π(y) over completions of *one* token is the on-policy
gradient. A cap leaves out Σ_y (π(y) − cap·μ(y))₊ A(y) ∇log π(y). For longer completions token weights correct each
token given its prefix, and not the distribution of the prefix nor that of what follows: what stays is at most
2·TV(μ, π) of either, times the largest |A|·‖∇log π‖. The product over all tokens would be exact, with a variance that
grows exponentially in the length; it is not offered.

These weights make up for the *engine*. That the policy has moved since is the business of the ratio in
``algorithm.loss``, and of its clip.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.loss import k3


@runtime_checkable
class ImportanceCorrection(Protocol):
    """Weights by which the loss of each token is multiplied: without gradient, 0 off the completion mask."""

    def __call__(
        self,
        old_logps_GT: Float[Tensor, "G T"],
        engine_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]: ...


class TokenTruncation:
    """min(exp(old − engine), cap) for each token."""

    def __init__(self, cap: float = 2.0) -> None:
        if cap < 1:
            raise ValueError(f"cap={cap}: a cap below 1 would shrink the weight of tokens on which both agree")
        self.cap = cap

    def __call__(
        self,
        old_logps_GT: Float[Tensor, "G T"],
        engine_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]:
        ratios_GT = _log_ratios(old_logps_GT, engine_logps_GT, completion_mask_GT).exp()
        return torch.where(completion_mask_GT, ratios_GT.clamp(max=self.cap), 0.0)


class SequenceMask:
    """1 for the tokens of a sequence whose geometric-mean ratio exp(mean_t(old − engine)) is in [low, high], else 0."""

    def __init__(self, low: float = 0.5, high: float = 2.0) -> None:
        if not 0 <= low <= 1 <= high:
            raise ValueError(f"low={low}, high={high}: the bounds must have 1 between them, and low must be ≥ 0")
        self.low, self.high = low, high

    def __call__(
        self,
        old_logps_GT: Float[Tensor, "G T"],
        engine_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
    ) -> Float[Tensor, "G T"]:
        log_ratios_GT = _log_ratios(old_logps_GT, engine_logps_GT, completion_mask_GT)
        ratios_G = (log_ratios_GT.sum(1) / completion_mask_GT.sum(1).clamp(min=1)).exp()
        kept_G = (ratios_G >= self.low) & (ratios_G <= self.high)
        return (completion_mask_GT & kept_G[:, None]).to(old_logps_GT.dtype)


@dataclass(frozen=True)
class Mismatch:
    """How far trainer and engine are apart on sampled tokens, in sums that add over groups and ranks, and a maximum.

    With d = trainer − engine: ``absolute`` is Σ|d|, ``largest`` max|d|, and ``kl`` Σ(exp(d) − 1 − d), whose mean over
    ``num_tokens`` estimates KL(engine ‖ trainer), as the tokens are the engine's samples. There d is clamped to ±10.
    """

    num_tokens: Float[Tensor, ""]
    absolute: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    largest: Float[Tensor, ""]


@torch.no_grad()
def mismatch(
    old_logps_GT: Float[Tensor, "G T"], engine_logps_GT: Float[Tensor, "G T"], completion_mask_GT: Bool[Tensor, "G T"]
) -> Mismatch:
    """The mismatch of one group; both log-probs are those of the weights that sampled."""
    old_GT, engine_GT = (torch.where(completion_mask_GT, x, 0.0) for x in (old_logps_GT, engine_logps_GT))
    absolute_GT = (old_GT - engine_GT).abs()
    return Mismatch(
        num_tokens=completion_mask_GT.sum().to(old_GT.dtype),
        absolute=absolute_GT.sum(),
        kl=k3(engine_GT, old_GT).sum(),
        largest=absolute_GT.max(),
    )


def _log_ratios(
    old_logps_GT: Float[Tensor, "G T"], engine_logps_GT: Float[Tensor, "G T"], completion_mask_GT: Bool[Tensor, "G T"]
) -> Float[Tensor, "G T"]:
    """old − engine, 0 off the mask, whatever stands there; clamped as in the loss."""
    log_ratios_GT = (old_logps_GT.detach() - engine_logps_GT.detach()).clamp(-20, 20)
    return torch.where(completion_mask_GT, log_ratios_GT, 0.0)
