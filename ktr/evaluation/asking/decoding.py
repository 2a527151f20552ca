"""How an item's answer comes about: one reply, a vote of several, or more frames until they agree."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ktr.errors import ConfigError
from ktr.rollout.engine import SamplingParams


@dataclass(frozen=True)
class Round:
    """What is asked at once: so many frames, sampled so."""

    num_frames: int
    sampling: SamplingParams


@dataclass(frozen=True)
class Given:
    """What a round gave: the answers that a rule reads in the replies, None where it reads none; and the frames shown.

    Fewer frames than the round had asked for are all that there are.
    """

    predictions: tuple[str | None, ...]
    num_frames: int


@runtime_checkable
class Decoding(Protocol):
    """A way to an answer. The last round decides, by ``vote``."""

    def next(self, rounds: Sequence[Given]) -> Round | None:
        """The round after these; None where they are enough."""
        ...


@dataclass(frozen=True)
class OneRound:
    """Each item is asked once. Of several completions the answer given most often counts (self-consistency)."""

    num_frames: int
    sampling: SamplingParams

    def next(self, rounds: Sequence[Given]) -> Round | None:
        return None if rounds else Round(self.num_frames, self.sampling)


@dataclass(frozen=True)
class SparseToDense:
    """Video-RTS (arXiv 2507.06485): few frames, doubled until all samples agree or there are ``max_frames``.

    A video that has no more frames is not asked again.
    """

    sampling: SamplingParams
    first_frames: int = 32
    max_frames: int = 128

    def __post_init__(self) -> None:
        if not 0 < self.first_frames <= self.max_frames or self.first_frames % 2:
            raise ConfigError(
                f"decoding.first_frames={self.first_frames}: an even number, {self.max_frames} (max_frames) at most"
            )

    def next(self, rounds: Sequence[Given]) -> Round | None:
        num_frames = self.first_frames * 2 ** len(rounds)
        is_unanimous = bool(rounds) and len(set(rounds[-1].predictions)) == 1 and rounds[-1].predictions[0] is not None
        shows_all = bool(rounds) and rounds[-1].num_frames < num_frames // 2
        if is_unanimous or shows_all or num_frames > self.max_frames:
            return None
        return Round(num_frames, self.sampling)


def vote(predictions: Sequence[str | None]) -> int:
    """Which reply stands for all: the first that gives the answer given most often, of equally frequent ones the first.

    Votes are over answers, not over scores, and no answer is no vote.
    """
    counts = Counter(filter(None, predictions))
    return predictions.index(max(counts, key=lambda each: counts[each])) if counts else 0
