r"""From losses of tokens to a loss of the batch, in sums that add over groups, micro-batches and ranks.

- ``sequence_mean``: (1/N) Σ_i (1/D_i) Σ_t l[i,t], N the sequences of the global batch (Video-R1, Video-KTR).
- ``token_mean``: (1/M) Σ_i Σ_t l[i,t], M the completion tokens of the global batch (DAPO, TW-GRPO).

- ``constant_length``: (1/(N·C)) Σ_i Σ_t l[i,t], C a constant of the run (Dr. GRPO, arXiv 2503.20783), so that no length
  makes a token count more or less; at C = |o_i| for all i it is ``sequence_mean``.

D_i is the length of the completion (``denominator="completion"``, the paper of Video-KTR, arXiv 2601.19686) or the
number of its selected tokens (``"selected"``, its released code). A sequence with no selected token contributes 0.

Assumption: N and M are known before the first forward pass. The number of *selected* tokens of the global batch is not,
so ``token_mean`` with ``denominator="selected"`` is refused.
"""

from typing import Literal, get_args

from jaxtyping import Bool, Float
from torch import Tensor

Reduction = Literal["sequence_mean", "token_mean"]
Denominator = Literal["completion", "selected"]


class TokenReduction:
    """Sums the tokens of one group, divided by the global counts. Raises ValueError on a pair that cannot add."""

    def __init__(self, reduction: Reduction = "sequence_mean", denominator: Denominator = "completion") -> None:
        if reduction not in get_args(Reduction) or denominator not in get_args(Denominator):
            raise ValueError(
                f"reduction={reduction!r}, denominator={denominator!r}: "
                f"choose from {get_args(Reduction)} and {get_args(Denominator)}"
            )
        if (reduction, denominator) == ("token_mean", "selected"):
            raise ValueError(
                "reduction='token_mean' needs denominator='completion': the number of selected tokens of the whole "
                "batch is not known when its first group is scored, so the losses of groups would not add"
            )
        self.reduction = reduction
        self.denominator = denominator

    def __call__(
        self,
        losses_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        selected_GT: Bool[Tensor, "G T"],
        num_sequences: int,
        num_tokens: int,
    ) -> Float[Tensor, ""]:
        """The group's share of the batch's loss; ``losses_GT`` is zero wherever a token must not count."""
        if self.reduction == "token_mean":
            return losses_GT.sum() / num_tokens
        counted_GT = selected_GT if self.denominator == "selected" else completion_mask_GT
        return self._of_sequences(losses_GT.sum(1), counted_GT).sum() / num_sequences

    def _of_sequences(self, sums_G: Float[Tensor, " G"], counted_GT: Bool[Tensor, "G T"]) -> Float[Tensor, " G"]:
        return sums_G / counted_GT.sum(1).clamp(min=1)


class ConstantLength(TokenReduction):
    """``constant_length``, with C = ``length``: the longest completion that may be sampled, as in Dr. GRPO's code."""

    def __init__(self, length: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"length={length}: the sum over a completion is divided by it; give 1 at least")
        self.length = length

    def _of_sequences(self, sums_G: Float[Tensor, " G"], counted_GT: Bool[Tensor, "G T"]) -> Float[Tensor, " G"]:
        return sums_G / self.length
