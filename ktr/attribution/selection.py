r"""Top-ratio selection and the union of signals (Video-KTR, arXiv 2601.19686).

Each signal keeps its top r of the tokens of a completion: the ceil(r·|o_i|) highest scores, |o_i| being the length of
the completion, EOS included. The tokens that the loss weighs are the union over the signals.

Assumptions and edges:
- A token is a candidate only on the completion mask, where its score is above zero (a signal that did not act, such as
  the temporal one on an image, selects nothing), and, unless ``eos_selectable``, where it is not EOS: that a completion
  stops says nothing of what was seen. Fewer candidates than the count means fewer selected tokens.
- ``ties="deterministic"``: an earlier token wins. ``ties="keep"``: every token at or above the (1 − r) quantile, as
  released, so a tie may select more than the count.
- ``scope="group"``: one count, or one quantile, over all completions of the group, as released; ties are then broken
  by the order of the completions.
- ``ratio=1`` switches selection off: the whole completion mask, EOS and zero scores included, so that Video-KTR at
  ratio 1 is GRPO exactly.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Scope = Literal["completion", "group"]
Ties = Literal["deterministic", "keep"]


@runtime_checkable
class Selection(Protocol):
    """How one signal's scores say what a token counts: chosen or not (``TopRatio``), or how much (``SoftRanks``).

    A token that counts more than ``floor`` is one that the signal singles out. EOS is one of them only if
    ``eos_selectable``.
    """

    floor: ClassVar[float]
    eos_selectable: bool

    def __call__(
        self,
        scores_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> Bool[Tensor, "G T"] | Float[Tensor, "G T"]: ...


class TopRatio:
    """Selects the top ``ratio`` of the tokens by score. Raises ValueError on a ratio outside (0, 1]."""

    floor: ClassVar[float] = 0.0

    def __init__(
        self,
        ratio: float = 0.2,
        scope: Scope = "completion",
        ties: Ties = "deterministic",
        eos_selectable: bool = False,
    ) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio={ratio}: the selected share of the tokens lies in (0, 1]")
        if scope not in get_args(Scope) or ties not in get_args(Ties):
            raise ValueError(f"scope={scope!r}, ties={ties!r}: choose from {get_args(Scope)} and {get_args(Ties)}")
        self.ratio = ratio
        self.scope = scope
        self.ties = ties
        self.eos_selectable = eos_selectable

    def __call__(
        self,
        scores_GT: Float[Tensor, "G T"],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> Bool[Tensor, "G T"]:
        """The selected tokens; ``eos_GT`` is True on the EOS token of each completion that ended by itself."""
        if self.ratio >= 1:
            return completion_mask_GT.clone()
        selectable_GT = completion_mask_GT if self.eos_selectable else completion_mask_GT & ~eos_GT
        rows = (1, -1) if self.scope == "group" else scores_GT.shape
        scores, mask, selectable = (x.reshape(rows) for x in (scores_GT, completion_mask_GT, selectable_GT))
        select = self._at_quantile if self.ties == "keep" else self._highest
        return select(scores, mask, selectable).reshape(scores_GT.shape)

    def _highest(
        self, scores: Float[Tensor, "R N"], mask: Bool[Tensor, "R N"], selectable: Bool[Tensor, "R N"]
    ) -> Bool[Tensor, "R N"]:
        candidates = selectable & (scores > 0)
        # Float64 and the small step down: 0.28 · 25 is 7.000000000000001 and must count 7.
        counts = torch.ceil(mask.sum(1, keepdim=True).double() * self.ratio - 1e-9)
        best_first = scores.masked_fill(~candidates, -torch.inf).argsort(dim=1, descending=True, stable=True)
        return candidates & (best_first.argsort(dim=1) < counts)

    def _at_quantile(
        self, scores: Float[Tensor, "R N"], mask: Bool[Tensor, "R N"], selectable: Bool[Tensor, "R N"]
    ) -> Bool[Tensor, "R N"]:
        # A row without a selectable token has threshold NaN, and nothing is at or above NaN.
        thresholds = scores.masked_fill(~selectable, torch.nan).nanquantile(1 - self.ratio, dim=1, keepdim=True)
        return selectable & (scores > 0) & (scores >= thresholds)


def union(selections_GT: Iterable[Bool[Tensor, "G T"]]) -> Bool[Tensor, "G T"]:
    """Tokens that at least one signal selected. Raises ValueError on no selection at all."""
    selections = list(selections_GT)
    if not selections:
        raise ValueError("union of no selections: the caller decides what no signal means")
    return torch.stack(selections).any(0)
