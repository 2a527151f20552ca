"""By which items of benchmarks a training row is met: a matcher for each kind of duplicate."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from ktr.console.progress_line import track
from ktr.duplicates.frame_hash import FrameHash, FrameHashes
from ktr.duplicates.near_texts import NearTexts, normalised, shingles, similarity
from ktr.duplicates.sides import Row
from ktr.evaluation.rules.asked import labelled
from ktr.types import MediaFile

K = TypeVar("K", bound=Hashable)
Match = tuple[int, float]  # the place of an item, and the similarity


class Matcher(ABC):
    """Says of which items a row is a duplicate, in one way."""

    kind: ClassVar[str]

    @abstractmethod
    def __call__(self, row: Row) -> Iterator[Match]:
        """The items by their places among all; one may come twice."""


class SameFiles(Matcher):
    """Rows with a medium whose content is that of an item's, by the ``hashes`` of contents."""

    kind = "same_file"

    def __init__(self, items: Sequence[Row], hashes: Mapping[Path, bytes]) -> None:
        self.hashes = hashes
        self._items = _by(items, lambda item: (hashes.get(file.path) for file in item.media))

    def __call__(self, row: Row) -> Iterator[Match]:
        for file in row.media:
            if (content := self.hashes.get(file.path)) is not None:
                yield from ((place, 1.0) for place in self._items.get(content, ()))


class SameNames(Matcher):
    """Rows with a medium whose file has the name of an item's, without its ending."""

    kind = "same_name"

    def __init__(self, items: Sequence[Row]) -> None:
        self._items = _by(items, lambda item: (name.casefold() for name in item.names))

    def __call__(self, row: Row) -> Iterator[Match]:
        for name in row.names:
            yield from ((place, 1.0) for place in self._items.get(name.casefold(), ()))


class SameFrames(Matcher):
    """Rows with a medium that looks like an item's: videos beside videos, pictures beside pictures."""

    kind = "same_frames"

    def __init__(
        self,
        items: Sequence[Row],
        trained: Iterable[MediaFile],
        hashes: Mapping[Path, FrameHash],
        max_distance: int,
    ) -> None:
        self._near: dict[Path, list[Match]] = defaultdict(list)
        places = _by(items, lambda item: (file for file in item.media if file.path in hashes))
        for kind in ("video", "image"):
            paths = sorted({file.path for file in trained if file.kind == kind and file.path in hashes})
            asked = {file.path: found for file, found in places.items() if file.kind == kind}
            if not paths or not asked:
                continue
            of_kind = FrameHashes([hashes[path] for path in paths], max_distance)
            for path, found in track(asked.items(), f"compare {kind}s", len(asked)):
                for near, value in of_kind.near(hashes[path]):
                    self._near[paths[near]] += [(place, value) for place in found]

    def __call__(self, row: Row) -> Iterator[Match]:
        for file in row.media:
            yield from self._near.get(file.path, ())


class SameQuestions(Matcher):
    """Rows that ask nearly what an item asks, in its words; where both have options, these too are nearly the same.

    Options are one set, whatever their letters and order.
    """

    kind = "same_question"

    def __init__(self, items: Sequence[Row], min_similarity: float) -> None:
        self.min_similarity = min_similarity
        self._places = _by(items, lambda item: [normalised(item.question)])
        self._options = [_options(item) for item in items]
        texts = [text for text in self._places if text]
        self._at, self._near = [self._places[text] for text in texts], NearTexts(texts, min_similarity)

    def __call__(self, row: Row) -> Iterator[Match]:
        if not (text := normalised(row.question)) or not (near := self._near.near(text)):
            return
        options = _options(row)
        for found, of_question in near:
            for place in self._at[found]:
                theirs = self._options[place]
                value = min(of_question, similarity(options, theirs)) if options and theirs else of_question
                if value >= self.min_similarity:
                    yield place, round(value, 3)


def _options(row: Row) -> frozenset[str]:
    bodies = (normalised(body) for body in labelled(row.options).values())
    return frozenset(shingle for body in bodies if body for shingle in shingles(body))


def _by(items: Sequence[Row], keys_of: Callable[[Row], Iterable[K | None]]) -> dict[K, list[int]]:
    """The places of the items by what they have."""
    places: dict[K, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        for key in dict.fromkeys(keys_of(item)):
            if key is not None:
                places[key].append(place)
    return dict(places)
