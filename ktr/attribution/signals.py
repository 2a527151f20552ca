r"""The three token signals of Video-KTR (arXiv 2601.19686).

For token t of completion i, teacher-forced under the policy and without gradient:

- visual:    Δvis[i,t]  = |log p(o_t | V, q, o_<t) − log p(o_t | masked V, q, o_<t)|
- temporal:  Δtemp[i,t] = |log p(o_t | V, q, o_<t) − log p(o_t | shuffled V, q, o_<t)|
- entropy:   H[i,t]     = −Σ_v p(v) log p(v)

``shift="absolute"`` is the paper's; ``shift="signed"`` drops the bars, as the released code does, so that only tokens
which the counterfactual makes less likely score above zero. In all signals a score of 0 or less means that the signal
did not act on the token, and selection leaves such tokens out.

``distance`` other than ``logprob`` measures, in place of the sampled token's log-prob, how far the whole distribution
moves (``attribution.distances``); with ``shift="signed"`` it has the sign of the log-prob's change.

``RandomSignal`` scores at random: the control for a choice of tokens that carries no information.

Assumption: one forward pass per view is enough; with ``num_shuffles`` > 1 the temporal score is the mean over draws.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.distances import distances
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import Granularity, MaskedVideo, Masking, Order, ShuffledFrames, View, WhichMedia
from ktr.types import Medium, TokenScores

Shift = Literal["absolute", "signed"]
Distance = Literal["logprob", "l1", "l2", "kl", "js", "cosine", "hellinger"]


class Signal(ABC):
    """A score per completion token, from the factual scores and those of ``views``: none, unless a signal says so."""

    name: ClassVar[str]
    views: tuple[View, ...] = ()

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]:
        """The counterfactual views that ``scores`` reads for a prompt of these media: those that change some of it."""
        return tuple(view for view in self.views if any(view.changes(media)))

    @abstractmethod
    def scores(self, group: GroupScores) -> Float[Tensor, "G T"]:
        """Higher is more attributed; in nats, or what the distance is in. Raises KeyError on a view not scored."""


class EntropySignal(Signal):
    """H[i,t], the policy's uncertainty at the token: it finds decisions, and needs no other view."""

    name = "entropy"

    def scores(self, group: GroupScores) -> Float[Tensor, "G T"]:
        if group.factual.entropies_GT is None:
            raise ValueError("the factual view was scored without entropies, which the entropy signal is made of")
        return group.factual.entropies_GT.detach()


class VisualSignal(Signal):
    """Δvis[i,t], the change of the token's log-probability, or distribution, when the media are masked.

    Where ``media`` names some, and the prompt has none of those, it is exactly 0 everywhere.
    """

    name = "visual"

    def __init__(
        self,
        masking: Masking = "drop",
        shift: Shift = "absolute",
        fraction: float = 1.0,
        distance: Distance = "logprob",
        media: WhichMedia = "all",
    ) -> None:
        self.view = MaskedVideo(masking, fraction, media)
        self.views = (self.view,)
        self.change = Change(distance, shift)

    def scores(self, group: GroupScores) -> Float[Tensor, "G T"]:
        if self.view.media != "all" and self.view not in group.views:
            return torch.zeros_like(group.factual.logps_GT)
        return self.change(group.factual, group.views[self.view])


class TemporalSignal(Signal):
    """Δtemp[i,t], the change of the token's log-probability, or distribution, when the frames are out of order.

    With several draws it is the mean over them. Images, and videos of one temporal patch, have no order: the signal
    requires no view for a prompt of nothing else and, given none of its views, scores exactly 0 everywhere.
    """

    name = "temporal"

    def __init__(
        self,
        granularity: Granularity = "temporal_patch",
        order: Order = "random",
        num_shuffles: int = 1,
        shift: Shift = "absolute",
        distance: Distance = "logprob",
        media: WhichMedia = "all",
    ) -> None:
        if num_shuffles < 1:
            raise ValueError(f"num_shuffles={num_shuffles}: the temporal signal needs at least one shuffle")
        self.views = tuple(ShuffledFrames(granularity, order, draw, media) for draw in range(num_shuffles))
        self.change = Change(distance, shift)

    def scores(self, group: GroupScores) -> Float[Tensor, "G T"]:
        if not any(view in group.views for view in self.views):
            return torch.zeros_like(group.factual.logps_GT)
        return torch.stack([self.change(group.factual, group.views[view]) for view in self.views]).mean(0)


class RandomSignal(Signal):
    """U[i,t], uniform on (0, 1]: selects ``selection.ratio`` of the tokens at random, the same on any rank."""

    name = "random"

    def scores(self, group: GroupScores) -> Float[Tensor, "G T"]:
        drawn_GT = torch.zeros(group.completion_mask_GT.shape)
        lengths = group.completion_mask_GT.sum(1).tolist()
        for row, (seed, length) in enumerate(zip(group.seeds, lengths, strict=True)):
            drawn_GT[row, :length] = 1 - torch.rand(length, generator=torch.Generator().manual_seed(seed))
        return drawn_GT.to(group.completion_mask_GT.device)


class Change:
    """How far a counterfactual moves each token: a ``distance``, absolute or signed; detached."""

    def __init__(self, distance: Distance = "logprob", shift: Shift = "absolute") -> None:
        if distance not in get_args(Distance) or shift not in get_args(Shift):
            raise ValueError(
                f"distance={distance!r}, shift={shift!r}: choose from {get_args(Distance)} and {get_args(Shift)}"
            )
        self.distance: Distance = distance
        self.shift: Shift = shift

    def __call__(self, factual: TokenScores, counterfactual: TokenScores) -> Float[Tensor, "G T"]:
        """Raises ValueError where a distance of distributions is asked of scores that hold none."""
        delta_GT = (factual.logps_GT - counterfactual.logps_GT).detach()
        if self.distance == "logprob":
            return delta_GT.abs() if self.shift == "absolute" else delta_GT
        if factual.distributions is None or counterfactual.distributions is None:
            raise ValueError(f"distance={self.distance!r} compares distributions, and these scores were kept without")
        moved_GT = distances(factual.distributions, counterfactual.distributions, self.distance)
        return moved_GT if self.shift == "absolute" else moved_GT * delta_GT.sign()
