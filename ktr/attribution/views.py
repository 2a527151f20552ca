"""Counterfactual views of a prompt: what the policy is shown when its own completion is scored again.

A view is a pure description, hashable, so that signals that ask for the same view share one pass. Turning a view into
embeddings and positions is the scorer's work; a view that only changes visual rows says itself how (``View.rows``).
Video-KTR (arXiv 2601.19686), section on token attribution: the visual signal compares with a view without the video,
the temporal one with a view whose frames are out of order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.types import Medium

Masking = Literal["drop", "drop_compact", "zero", "blank_frames", "noise_frames"]
Granularity = Literal["temporal_patch", "frame"]
Order = Literal["random", "reverse", "segmental", "unrestricted"]
WhichMedia = Literal["all", "videos", "images"] | Sequence[int]


@dataclass(frozen=True)
class View:
    """Base of all views. ``name`` is what a record or a page calls it."""

    name: ClassVar[str] = "other"

    def changes(self, media: Sequence[Medium]) -> list[bool]:
        """Which media of a prompt are seen otherwise; a prompt without such a medium does not need the view."""
        return [True] * len(media)

    def rows(self, rows_NF: Float[Tensor, "N F"], medium: Medium, generator: torch.Generator) -> Float[Tensor, "N F"]:
        """What becomes of the rows of one medium that changes: as many, by temporal patch and then by place in it.

        They are the tower's features, on the policy's device; ``generator``, on the CPU, is that of the question.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rows(rows_NF, medium, generator)")


@dataclass(frozen=True)
class Factual(View):
    """The prompt as it is."""

    name = "factual"

    def changes(self, media: Sequence[Medium]) -> list[bool]:
        return [False] * len(media)


@dataclass(frozen=True)
class MaskedVideo(View):
    """The prompt without (a ``fraction`` of) its media, or of those that ``media`` names; see ``checked_media``.

    ``drop`` hides the visual tokens from attention and leaves every other position where it was; ``drop_compact`` also
    closes the gap in the positions, as the released code does; ``zero`` puts zeros in place of the features, the
    paper's wording; ``blank_frames`` shows black frames; ``noise_frames`` shows frames of noise instead, each pixel
    drawn from a normal distribution of the processor's mean and deviation. What a fraction hides is drawn at random:
    visual tokens, or for frames temporal patches, at least one. Raises ValueError on a fraction outside (0, 1].

    Noise and not the frames of another question: what a batch holds, and on which rank, changes no score, and one
    question per rank (the paper's setting) has no other.
    """

    name = "masked"
    masking: Masking = "drop"
    fraction: float = 1.0
    media: WhichMedia = "all"

    def __post_init__(self) -> None:
        if self.masking not in get_args(Masking):
            raise ValueError(f"masking={self.masking!r}: choose one of {get_args(Masking)}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: the masked share of the video lies in (0, 1]")
        object.__setattr__(self, "media", checked_media(self.media))

    def changes(self, media: Sequence[Medium]) -> list[bool]:
        return _named(self.media, media)


@dataclass(frozen=True)
class ShuffledFrames(View):
    """The prompt with the order of its frames changed; only ``unrestricted``, as released, may leave it as it was.

    Frames move inside of each video that ``media`` names, never from one to another; an image has no order.

    ``temporal_patch`` moves whole temporal patches (two frames each), so only order changes; ``frame`` moves single
    frames before they are paired, so appearance inside a patch changes too. ``draw`` tells several random shuffles of
    one video apart; the other orders have only draw 0.
    """

    name = "shuffled"
    granularity: Granularity = "temporal_patch"
    order: Order = "random"
    draw: int = 0
    media: WhichMedia = "all"

    def __post_init__(self) -> None:
        if self.granularity not in get_args(Granularity):
            raise ValueError(f"granularity={self.granularity!r}: choose one of {get_args(Granularity)}")
        if self.order not in get_args(Order):
            raise ValueError(f"order={self.order!r}: choose one of {get_args(Order)}")
        if self.draw < 0 or (self.draw > 0 and self.order == "reverse"):
            raise ValueError(
                f"draw={self.draw} with order={self.order!r}: a reversal has draw 0 only, others draw >= 0"
            )
        if self.media == "images":
            raise ValueError("media='images': a picture has no order to change; give all, videos, or a list of places")
        object.__setattr__(self, "media", checked_media(self.media))

    def changes(self, media: Sequence[Medium]) -> list[bool]:
        """Only of a video that has several temporal patches, or whose single frames move."""
        return [
            named and medium.kind == "video" and (medium.grid_thw[0] > 1 or self.granularity == "frame")
            for named, medium in zip(_named(self.media, media), media, strict=True)
        ]


def checked_media(which: Any) -> WhichMedia:
    """Media by kind ("videos", "images"), by their places in the prompt from 0 on, or "all" of them.

    A prompt that has none of them stays as it is. Places come back in order, each once. Raises ValueError on the rest.
    """
    if which in ("all", "videos", "images"):
        return which
    places = tuple(which) if isinstance(which, Sequence) and not isinstance(which, str) else ()
    if not places or not all(isinstance(place, int) and not isinstance(place, bool) and place >= 0 for place in places):
        raise ValueError(f"media={which!r}: give all, videos, images, or a list of places in the prompt, like [0, 2]")
    return tuple(sorted(set(places)))


def _named(which: WhichMedia, media: Sequence[Medium]) -> list[bool]:
    if isinstance(which, tuple):
        return [place in which for place in range(len(media))]
    return [which == "all" or which == f"{medium.kind}s" for medium in media]


def view_names(views: Iterable[View]) -> dict[View, str]:
    """What to call each view: its name, and from the second of one name on a number as well (``shuffled 2``)."""
    seen: Counter[str] = Counter()
    names = {}
    for view in views:
        seen[view.name] += 1
        names[view] = view.name if seen[view.name] == 1 else f"{view.name} {seen[view.name]}"
    return names
