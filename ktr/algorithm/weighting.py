r"""Token weights: how much each completion token counts in the policy loss.

- ``Uniform`` (GRPO, arXiv 2402.03300): w[i,t] = 1 on the completion.
- ``KeyTokens`` (Video-KTR, arXiv 2601.19686): w[i,t] = 1 on the union of the tokens that the signals select, else 0;
  or soft weights of the signals' ranks, their maximum or their mean.
- ``RandomTokens``: the weights of ``KeyTokens``, dealt out at random. The control that holds their number fixed.
- ``RestTokens``: what ``KeyTokens`` leaves out, w[i,t] = 1 − its weight. The control that a good choice must beat.

Weights are constants of the loss: they carry no gradient, and are exactly zero off the completion mask.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import Selection
from ktr.attribution.signals import RandomSignal, Signal
from ktr.attribution.views import View
from ktr.types import Medium, TokenWeights


@runtime_checkable
class TokenWeighting(Protocol):
    """What the training step asks of a weighting: the views it needs, then the weights of one group."""

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]:
        return ()

    def __call__(self, group: GroupScores) -> TokenWeights: ...


class Uniform(TokenWeighting):
    """Every completion token counts alike."""

    def __call__(self, group: GroupScores) -> TokenWeights:
        return TokenWeights(group.completion_mask_GT.to(group.factual.logps_GT.dtype))


class KeyTokens(TokenWeighting):
    """Each token counts as much as the signals say; a signal given as None is off.

    ``selection`` turns the scores of one signal into weights. ``combine="max"`` takes the largest over the signals, for
    selected tokens their union (the paper's), and ``"mean"`` the mean, for selected tokens the share of the signals
    that select them. With no signal on there is nothing to weigh by, and every token counts: the algorithm is GRPO.
    """

    def __init__(
        self, signals: Mapping[str, Signal | None], selection: Selection, combine: Literal["max", "mean"] = "max"
    ) -> None:
        if combine not in ("max", "mean"):
            raise ValueError(f"combine={combine!r}: choose max or mean")
        self.signals = {name: signal for name, signal in signals.items() if signal is not None}
        self.selection = selection
        self.combine: Literal["max", "mean"] = combine

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]:
        """The union of the signals' views, each once, in the order of the signals."""
        views = (view for signal in self.signals.values() for view in signal.required_views(media))
        return tuple(dict.fromkeys(views))

    def __call__(self, group: GroupScores) -> TokenWeights:
        if not self.signals:
            return Uniform()(group)
        mask_GT = group.completion_mask_GT
        scores = {name: _on(mask_GT, signal.scores(group).detach()) for name, signal in self.signals.items()}
        weights = {name: self.selection(s, mask_GT, group.eos_GT) for name, s in scores.items()}
        selections = {name: weights_GT > self.selection.floor for name, weights_GT in weights.items()}
        weights_SGT = torch.stack(list(weights.values())).to(group.factual.logps_GT.dtype)
        weights_GT = weights_SGT.amax(0) if self.combine == "max" else weights_SGT.mean(0)
        return TokenWeights(weights_GT, selections, scores)


class RandomTokens(KeyTokens):
    """``KeyTokens`` with the weights permuted at random: equal in size, blind to the tokens.

    Permuted ``within="completion"``, or among the tokens at one ``"position"`` of the group's completions, so that each
    position has as many as the signals select there. A token that the signals may not select (EOS) keeps its weight.
    Every view of the signals is still scored, for only they say how many tokens there are; for a fixed share of random
    tokens take ``RandomSignal`` as the only signal.
    """

    def __init__(
        self,
        signals: Mapping[str, Signal | None],
        selection: Selection,
        combine: Literal["max", "mean"] = "max",
        within: Literal["completion", "position"] = "completion",
    ) -> None:
        super().__init__(signals, selection, combine)
        if within not in ("completion", "position"):
            raise ValueError(f"within={within!r}: choose completion or position")
        self.within = within

    def __call__(self, group: GroupScores) -> TokenWeights:
        weights_GT, mask_GT = super().__call__(group).weights_GT, group.completion_mask_GT
        moved_GT = mask_GT if self.selection.eos_selectable else mask_GT & ~group.eos_GT
        chance_GT, dim = RandomSignal().scores(group), int(self.within == "completion")
        # Both orders end with the tokens that stay.
        by_chance = chance_GT.masked_fill(~moved_GT, torch.inf).argsort(dim=dim, stable=True)
        by_size = weights_GT.masked_fill(~moved_GT, -torch.inf).sort(dim=dim, descending=True).values
        dealt_GT = torch.where(moved_GT, torch.empty_like(weights_GT).scatter_(dim, by_chance, by_size), weights_GT)
        return TokenWeights(dealt_GT, {"random": dealt_GT > self.selection.floor}, {"random": chance_GT})


class RestTokens(KeyTokens):
    """What ``KeyTokens`` leaves out: 1 − its weight on every completion token. Raises ValueError without a signal."""

    def __init__(
        self, signals: Mapping[str, Signal | None], selection: Selection, combine: Literal["max", "mean"] = "max"
    ) -> None:
        super().__init__(signals, selection, combine)
        if not self.signals:
            raise ValueError(
                "weighting=rest_tokens: without a signal every token counts, and none is left; turn one on"
            )

    def __call__(self, group: GroupScores) -> TokenWeights:
        key = super().__call__(group)
        weights_GT = torch.where(group.completion_mask_GT, 1 - key.weights_GT, 0.0)
        return TokenWeights(weights_GT, {"rest": weights_GT > 0}, {"rest": weights_GT})


def signal_views(weighting: TokenWeighting) -> dict[str, Sequence[View]]:
    """The views of each signal that a weighting reads, by the signal's key; none where it reads no signals."""
    signals = weighting.signals if isinstance(weighting, KeyTokens) else {}
    return {f"attribution.signals.{name}": signal.views for name, signal in signals.items()}


def _on(mask_GT: Bool[Tensor, "G T"], values_GT: Float[Tensor, "G T"]) -> Float[Tensor, "G T"]:
    return torch.where(mask_GT, values_GT, 0.0)
