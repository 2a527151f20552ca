"""What every way of asking has in common: questions are taken one by one, answers come as they end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.outcome import Outcome
from ktr.rollout.engine import SamplingParams
from ktr.types import VideoQuestion


@dataclass(frozen=True)
class Ask:
    """An item's question, asked once: with ``num_frames`` of each video at most, and ``sampling`` under ``seed``."""

    item: Item
    question: VideoQuestion
    num_frames: int
    sampling: SamplingParams
    seed: int


@dataclass(frozen=True)
class Reply:
    """One reply of a model; ``cut_off`` where it ended at its longest length."""

    text: str
    cut_off: bool = False


@dataclass(frozen=True)
class Answered:
    """What became of an ask: as many replies as its sampling has completions; or none, and why.

    ``num_frames`` were shown of each medium. ``cost`` is in dollars, None where it is not known; a reply that was asked
    for again costs again.
    """

    ask: Ask
    replies: tuple[Reply, ...] = ()
    outcome: Outcome | None = None
    reason: str = ""
    num_frames: tuple[int, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None


Take = Callable[[], Ask | None]


@runtime_checkable
class Answerer(Protocol):
    """Whoever is asked: a policy, or a model behind an endpoint."""

    def answers(self, take: Take) -> Iterator[Answered]:
        """Answers as they end, in any order.

        ``take`` gives the next ask, or None where there is none for now: taking an answer may make new ones. It ends
        where nothing is asked and there is none. Raises a ``KtrError`` where going on is of no use.
        """
        ...

    def close(self) -> None:
        """Free what it holds. May be called twice."""
        ...
