r"""The three token signals of Video-KTR (arXiv 2601.19686).

For token t of completion i, teacher-forced under the policy and without gradient:

- visual:    Δvis[i,t]  = |log p(o_t | V, q, o_<t) − log p(o_t | masked V, q, o_<t)|
- temporal:  Δtemp[i,t] = |log p(o_t | V, q, o_<t) − log p(o_t | shuffled V, q, o_<t)|
- entropy:   H[i,t]     = −Σ_v p(v) log p(v)

``shift="absolute"`` is the paper's; ``shift="signed"`` drops the bars, as the released code does, so that only tokens
which the counterfactual makes less likely score above zero. In all signals a score of 0 or less means that the signal
did not act on the token, and selection leaves such tokens out.

Assumption: one forward pass per view is enough; with ``num_shuffles`` > 1 the temporal score is the mean over draws.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import Granularity, MaskedVideo, Masking, Order, ShuffledFrames, View
from ktr.types import TokenScores

Shift = Literal["absolute", "signed"]
DataType = Literal["video", "image"]


class Signal(ABC):
    """A score per completion token, from the factual scores and those of the views it requires."""

    name: ClassVar[str]

    @abstractmethod
    def required_views(self, data_type: DataType) -> tuple[View, ...]:
        """The counterfactual views that ``scores`` reads for an item of this type."""

    @abstractmethod
    def scores(self, factual: TokenScores, views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]:
        """Higher is more attributed; nats. Raises KeyError where a required view was not scored."""


class EntropySignal(Signal):
    """H[i,t], the policy's uncertainty at the token: it finds decisions, and needs no other view."""

    name = "entropy"

    def required_views(self, data_type: DataType) -> tuple[View, ...]:
        return ()

    def scores(self, factual: TokenScores, views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]:
        if factual.entropies_GT is None:
            raise ValueError("the factual view was scored without entropies, which the entropy signal is made of")
        return factual.entropies_GT.detach()


class VisualSignal(Signal):
    """Δvis[i,t], the change of the token's log-probability when the video is masked."""

    name = "visual"

    def __init__(self, masking: Masking = "drop", shift: Shift = "absolute", fraction: float = 1.0) -> None:
        self.view = MaskedVideo(masking, fraction)
        self.shift: Shift = _checked(shift)

    def required_views(self, data_type: DataType) -> tuple[View, ...]:
        return (self.view,)

    def scores(self, factual: TokenScores, views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]:
        return likelihood_shift(factual, views[self.view], self.shift)


class TemporalSignal(Signal):
    """Δtemp[i,t], the change of the token's log-probability when the frames are out of order, mean over the draws.

    An image has no order: the signal requires no view for it and, given none of its views, scores exactly 0 everywhere.
    """

    name = "temporal"

    def __init__(
        self,
        granularity: Granularity = "temporal_patch",
        order: Order = "random",
        num_shuffles: int = 1,
        shift: Shift = "absolute",
    ) -> None:
        if num_shuffles < 1:
            raise ValueError(f"num_shuffles={num_shuffles}: the temporal signal needs at least one shuffle")
        self.views = tuple(ShuffledFrames(granularity, order, draw) for draw in range(num_shuffles))
        self.shift: Shift = _checked(shift)

    def required_views(self, data_type: DataType) -> tuple[View, ...]:
        return () if data_type == "image" else self.views

    def scores(self, factual: TokenScores, views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]:
        if not any(view in views for view in self.views):
            return torch.zeros_like(factual.logps_GT)
        return torch.stack([likelihood_shift(factual, views[view], self.shift) for view in self.views]).mean(0)


def likelihood_shift(factual: TokenScores, counterfactual: TokenScores, shift: Shift) -> Float[Tensor, "G T"]:
    """log p(o_t | factual) − log p(o_t | counterfactual), in nats, absolute or signed; detached."""
    delta_GT = (factual.logps_GT - counterfactual.logps_GT).detach()
    return delta_GT.abs() if shift == "absolute" else delta_GT


def _checked(shift: Shift) -> Shift:
    if shift not in get_args(Shift):
        raise ValueError(f"shift={shift!r}: choose one of {get_args(Shift)}")
    return shift
