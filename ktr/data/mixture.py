"""Several data sets as one: all of each, or a part of it that a seed draws."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ktr.data.dataset import QuestionDataset
from ktr.errors import ConfigError
from ktr.types import VideoQuestion

log = logging.getLogger(__name__)


class Mixture(QuestionDataset):
    """The questions of all parts, one part after the other, each in its own order.

    Args:
        parts: the data sets by name. A question's id is ``name:id``, so that parts may count alike.
        take: by part, how many of its questions, or how many about videos and how many about images alone
            (``{video: 6600, image: 8765}``); all where it is silent.
        weights: by part, how often each of those stands in an epoch; at 2.5 half of them stand there a third time, with
            an id of their own for each time. 1 where it is silent.
        seed: decides what is drawn. Which questions come first is that of (seed, id) alone: one that is missing is
            replaced by one other, and a larger number takes some more.

    Raises ``ConfigError`` where there is no such part, or fewer questions than are to be taken.
    """

    def __init__(
        self,
        parts: Mapping[str, QuestionDataset],
        take: Mapping[str, int | Mapping[str, int]] | None = None,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self.parts, self.seed = dict(parts), seed
        take, weights = take or {}, weights or {}
        if unknown := sorted({*take, *weights} - set(parts)):
            raise ConfigError(f"there is no part {unknown[0]!r} to take or to weigh: the parts are {', '.join(parts)}")
        self.skips = [skip for part in parts.values() for skip in part.skips]
        self.questions: list[VideoQuestion] = []
        for name, part in parts.items():
            taken = self._taken(name, part.questions, take.get(name))
            drawn = self._weighed(name, taken, weights.get(name, 1.0))
            log.info("%s: %d questions of %d", name, len(drawn), len(part))
            self.questions += drawn

    def _taken(
        self, name: str, questions: Sequence[VideoQuestion], wanted: int | Mapping[str, int] | None
    ) -> list[VideoQuestion]:
        if wanted is None:
            return list(questions)
        by_kind: dict[str, list[VideoQuestion]] = {"": list(questions)}
        if isinstance(wanted, Mapping):
            by_kind = {kind: [q for q in questions if _kind(q) == kind] for kind in ("video", "image")}
        chosen = set[str]()
        for kind, count in wanted.items() if isinstance(wanted, Mapping) else [("", wanted)]:
            there = by_kind.get(kind, [])
            if kind not in by_kind or not 0 <= count <= len(there):
                has = ", ".join(f"{len(found)} {of}".strip() for of, found in by_kind.items())
                raise ConfigError(f"take.{name}={wanted}: of {name} {has} can be used; take fewer, or add its files")
            chosen |= {question.id for question in self._first(name, there, count)}
        return [question for question in questions if question.id in chosen]

    def _weighed(self, name: str, questions: Sequence[VideoQuestion], weight: float) -> list[VideoQuestion]:
        if weight < 0:
            raise ConfigError(f"weights.{name}={weight}: how often a question stands in an epoch is 0 at least")
        whole, rest = int(weight), round((weight - int(weight)) * len(questions))
        more = {question.id for question in self._first(name, questions, rest)}
        return [
            replace(question, id=f"{name}:{question.id}" + (f"*{time + 1}" if time else ""))
            for time in range(whole + 1)
            for question in questions
            if time < whole or question.id in more
        ]

    def _first(self, name: str, questions: Sequence[VideoQuestion], count: int) -> list[VideoQuestion]:
        """``count`` of the questions by the lot of each, which its id and the seed decide."""
        if count == 0:
            return []
        return sorted(questions, key=lambda question: _lot(f"{self.seed}/{name}/{question.id}"))[:count]


def _lot(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _kind(question: VideoQuestion) -> str:
    return "video" if any(file.kind == "video" for file in question.media) else "image"
