r"""The clipped surrogate with a k3 penalty (PPO, arXiv 1707.06347; GRPO, arXiv 2402.03300; k3: Schulman, 2020).

L = −reduce( w[i,t] · v[i,t] · min(ρ A_i, clip(ρ, 1 − c_low, 1 + c_high) A_i) ) + β · reduce( k3[i,t] )

with ρ = exp(logp − old_logp) (or another of ``algorithm.ratios``), v the importance weights of an engine that is not
quite the trainer (else 1), and k3 = exp(d) − d − 1, d = ref_logp − logp clamped to ±10. With one on-policy update per
rollout old_logp is logp.detach(): ρ is exactly 1, the clip never acts, and ∂L/∂logp[i,t] ∝ −w[i,t] v[i,t] A_i.

Assumptions: v is a constant, and so is w unless a weighting gives it a gradient; by default the penalty covers the
whole completion (the paper of Video-KTR, arXiv 2601.19686), with ``kl_scope="selected"`` only the tokens with a weight
(its released code).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.penalties import Penalty
from ktr.algorithm.ratios import Ratio, TokenRatio
from ktr.algorithm.reductions import TokenReduction
from ktr.attribution.views import View
from ktr.types import Medium, TokenScores

KlScope = Literal["completion", "selected"]


@dataclass(frozen=True)
class LossTerms:
    """One group's share of the batch's loss and of what to log; each adds over groups, micro-batches and ranks.

    ``loss`` has the gradient, the rest is detached: ``loss = policy_loss + beta * kl``, and what penalties add.
    ``clip_fraction`` (tokens whose gradient the clip removes) is a share of all completion tokens of the global batch;
    ``ratio_sum`` is over the group's own ``num_tokens``.
    """

    loss: Float[Tensor, ""]
    policy_loss: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    ratio_sum: Float[Tensor, ""]
    num_tokens: Float[Tensor, ""]


class ClippedSurrogate:
    """Policy loss of one group of completions. Raises ValueError where ``beta`` > 0 and no reference was scored."""

    def __init__(
        self,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        beta: float = 0.0,
        kl_scope: KlScope = "completion",
        reduction: TokenReduction | None = None,
        ratio: Ratio | None = None,
        penalties: Mapping[str, Penalty | None] | None = None,
    ) -> None:
        if kl_scope not in get_args(KlScope):
            raise ValueError(f"kl_scope={kl_scope!r}: choose one of {get_args(KlScope)}")
        for name, value in (("clip_low", clip_low), ("clip_high", clip_high), ("beta", beta)):
            if not value >= 0:
                raise ValueError(f"{name}={value}: give 0 or more")
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.beta = beta
        self.kl_scope = kl_scope
        self.reduction = reduction or TokenReduction()
        self.ratio = ratio or TokenRatio()
        self.penalties = {name: penalty for name, penalty in (penalties or {}).items() if penalty is not None}

    @property
    def needs_reference(self) -> bool:
        return self.beta > 0

    @property
    def learns_without_advantage(self) -> bool:
        """True where a group of zero advantages has a gradient all the same."""
        return self.needs_reference or bool(self.penalties)

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]:
        """The counterfactual views that the penalties compare with."""
        return tuple(
            dict.fromkeys(view for penalty in self.penalties.values() for view in penalty.required_views(media))
        )

    @property
    def weighs_without_advantage(self) -> bool:
        """True where weights matter to a group of zero advantages: they say which tokens the penalty covers."""
        return self.needs_reference and self.kl_scope == "selected"

    def __call__(
        self,
        logps_GT: Float[Tensor, "G T"],
        old_logps_GT: Float[Tensor, "G T"],
        ref_logps_GT: Float[Tensor, "G T"] | None,
        advantages: Float[Tensor, "G *T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        token_weights_GT: Float[Tensor, "G T"],
        num_sequences: int,
        num_tokens: int,
        importance_GT: Float[Tensor, "G T"] | None = None,
        views: Mapping[View, TokenScores] | None = None,
        all_counts: tuple[int, int] | None = None,
    ) -> LossTerms:
        """``num_sequences`` and ``num_tokens`` count the completions and their tokens in the global batch.

        Where they leave some out, which penalties cover all the same, ``all_counts`` has those of all.
        ``advantages`` are those of completions or of tokens. ``views`` are the ``required_views``, scored.
        ``old_logps_GT`` are those of the weights that sampled. ``importance_GT`` (``algorithm.importance``) multiplies
        the surrogate, and neither the penalty nor what is selected and counted.
        """
        if self.needs_reference and ref_logps_GT is None:
            raise ValueError(f"beta={self.beta} needs ref_logps_GT: score the reference policy, or set beta=0")

        weights_GT = torch.where(completion_mask_GT, token_weights_GT, 0.0)
        selected_GT = weights_GT != 0
        surrogate_GT, ratio_GT = self.surrogate(logps_GT, old_logps_GT, advantages, completion_mask_GT, importance_GT)
        all_counts = all_counts or (num_sequences, num_tokens)
        masks = completion_mask_GT, selected_GT
        policy_loss = self.reduction(-weights_GT * surrogate_GT, *masks, num_sequences, num_tokens)

        loss, kl = policy_loss, torch.zeros_like(policy_loss)
        if self.needs_reference and ref_logps_GT is not None:
            ref_logps_GT = torch.where(completion_mask_GT, ref_logps_GT.detach(), 0.0)
            kl = self._penalty(torch.where(completion_mask_GT, logps_GT, 0.0), ref_logps_GT, *masks, *all_counts)
            loss = policy_loss + self.beta * kl
        for penalty in self.penalties.values():
            of_tokens_GT = penalty(torch.where(completion_mask_GT, logps_GT, 0.0), views or {})
            added_GT = torch.where(completion_mask_GT, of_tokens_GT, 0.0)
            loss = loss + self.reduction(added_GT, completion_mask_GT, completion_mask_GT, *all_counts)

        return LossTerms(
            loss=loss,
            policy_loss=policy_loss.detach(),
            kl=kl.detach(),
            clip_fraction=self._removed(ratio_GT, _of_tokens(advantages), completion_mask_GT).sum() / all_counts[1],
            ratio_sum=torch.where(completion_mask_GT, ratio_GT.detach(), 0.0).sum(),
            num_tokens=completion_mask_GT.sum().to(policy_loss.dtype),
        )

    def surrogate(
        self,
        logps_GT: Float[Tensor, "G T"],
        old_logps_GT: Float[Tensor, "G T"],
        advantages: Float[Tensor, "G *T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        importance_GT: Float[Tensor, "G T"] | None = None,
    ) -> tuple[Float[Tensor, "G T"], Float[Tensor, "G T"]]:
        """v · min(ρA, clip(ρ)A) of each token, its loss with weight 1 but for the sign; and ρ."""
        # Masked before any arithmetic: 0 · inf is NaN, and so would be its gradient.
        logps_GT = torch.where(completion_mask_GT, logps_GT, 0.0)
        old_logps_GT = torch.where(completion_mask_GT, old_logps_GT.detach(), 0.0)
        ratio_GT = self.ratio(logps_GT, old_logps_GT, completion_mask_GT)
        surrogate_GT = self._of_ratio(ratio_GT, logps_GT, _of_tokens(advantages))
        if importance_GT is not None:
            surrogate_GT = torch.where(completion_mask_GT, importance_GT.detach(), 0.0) * surrogate_GT
        return surrogate_GT, ratio_GT

    def _of_ratio(
        self, ratio_GT: Float[Tensor, "G T"], logps_GT: Float[Tensor, "G T"], advantages_GT: Float[Tensor, "G _"]
    ) -> Float[Tensor, "G T"]:
        return torch.minimum(ratio_GT * advantages_GT, self._clipped(ratio_GT) * advantages_GT)

    def _clipped(self, ratio_GT: Float[Tensor, "G T"]) -> Float[Tensor, "G T"]:
        return ratio_GT.clamp(1 - self.clip_low, 1 + self.clip_high)

    def _removed(
        self, ratio_GT: Float[Tensor, "G T"], advantages_GT: Float[Tensor, "G _"], mask_GT: Bool[Tensor, "G T"]
    ) -> Bool[Tensor, "G T"]:
        return mask_GT & (self._clipped(ratio_GT) * advantages_GT < ratio_GT * advantages_GT)

    def _penalty(
        self,
        logps_GT: Float[Tensor, "G T"],
        ref_logps_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        selected_GT: Bool[Tensor, "G T"],
        num_sequences: int,
        num_tokens: int,
    ) -> Float[Tensor, ""]:
        k3_GT = k3(logps_GT, ref_logps_GT)
        if self.kl_scope == "selected":
            k3_GT = torch.where(selected_GT, k3_GT, 0.0)
        else:  # a penalty on every token is a mean over every token, whatever the policy term divides by
            selected_GT = completion_mask_GT
        return self.reduction(k3_GT, completion_mask_GT, selected_GT, num_sequences, num_tokens)


def _of_tokens(advantages: Float[Tensor, "G *T"]) -> Float[Tensor, "G _"]:
    """Advantages as they multiply tokens; those of completions in one column."""
    return advantages.detach() if advantages.ndim == 2 else advantages.detach()[:, None]


def k3(logps: Float[Tensor, "*N"], ref_logps: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """exp(d) − d − 1, d = ref_logp − logp clamped to ±10: an unbiased, never negative estimate of KL(policy ‖ ref)."""
    d = (ref_logps - logps).clamp(-10, 10)
    return torch.expm1(d) - d
