r"""Token weights: how much each completion token counts in the policy loss.

- ``Uniform`` (GRPO, arXiv 2402.03300): w[i,t] = 1 on the completion.
- ``KeyTokens`` (Video-KTR, arXiv 2601.19686): w[i,t] = 1 on the union of the tokens that the signals select, else 0.

Weights are constants of the loss: they carry no gradient, and are exactly zero off the completion mask.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.attribution.selection import TopRatio, union
from ktr.attribution.signals import DataType, Signal
from ktr.attribution.views import View
from ktr.types import TokenScores, TokenWeights


@runtime_checkable
class TokenWeighting(Protocol):
    """What the training step asks of a weighting: the views it needs, then the weights of one group."""

    def required_views(self, data_type: DataType) -> tuple[View, ...]: ...

    def __call__(
        self,
        factual: TokenScores,
        views: Mapping[View, TokenScores],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> TokenWeights: ...


class Uniform:
    """Every completion token counts alike."""

    def required_views(self, data_type: DataType) -> tuple[View, ...]:
        return ()

    def __call__(
        self,
        factual: TokenScores,
        views: Mapping[View, TokenScores],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> TokenWeights:
        return TokenWeights(completion_mask_GT.to(factual.logps_GT.dtype))


class KeyTokens:
    """Only the tokens that a signal selects count; a signal given as None is off.

    With no signal on there is nothing to select by, and every token counts: the algorithm is then GRPO.
    """

    def __init__(self, signals: Mapping[str, Signal | None], selection: TopRatio) -> None:
        self.signals = {name: signal for name, signal in signals.items() if signal is not None}
        self.selection = selection

    def required_views(self, data_type: DataType) -> tuple[View, ...]:
        """The union of the signals' views, each once, in the order of the signals."""
        views = (view for signal in self.signals.values() for view in signal.required_views(data_type))
        return tuple(dict.fromkeys(views))

    def __call__(
        self,
        factual: TokenScores,
        views: Mapping[View, TokenScores],
        completion_mask_GT: Bool[Tensor, "G T"],
        eos_GT: Bool[Tensor, "G T"],
    ) -> TokenWeights:
        scores = {
            name: _on(completion_mask_GT, signal.scores(factual, views).detach())
            for name, signal in self.signals.items()
        }
        selections = {name: self.selection(s, completion_mask_GT, eos_GT) for name, s in scores.items()}
        selected_GT = union(selections.values()) if selections else completion_mask_GT
        return TokenWeights(selected_GT.to(factual.logps_GT.dtype), selections, scores)


def _on(mask_GT: Bool[Tensor, "G T"], values_GT: Float[Tensor, "G T"]) -> Float[Tensor, "G T"]:
    return torch.where(mask_GT, values_GT, 0.0)
