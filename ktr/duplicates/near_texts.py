"""Texts that are nearly equal, found without comparing each with each.

The similarity is Jaccard's, |a ∩ b| / |a ∪ b|, of the sets of five characters in a row of the normalised texts: a
changed word costs a part of it, and punctuation, case and width of letters nothing. Sets of five words would be too
coarse: a question has twelve words, and one that is spelled otherwise would leave three of its eight sets.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import ceil

from ktr.data.row_media import MARKER

WORD = re.compile(r"\w+")
SIZE = 5
Shingles = frozenset[str]


def normalised(text: str) -> str:
    """The words of a text in small letters, with one space between them; without markers of media."""
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", MARKER.sub(" ", text)).casefold()))


def shingles(text: str) -> Shingles:
    """All ``SIZE`` characters in a row of a normalised text; the text itself where it is shorter."""
    return frozenset(text[place : place + SIZE] for place in range(max(1, len(text) - SIZE + 1)))


def similarity(one: Shingles, other: Shingles) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


class NearTexts:
    """Finds those of ``texts``, all normalised, that are at least ``threshold`` similar to another.

    Exactly, by an inverted index of a few shingles of each. Two texts at least t similar share ⌈t·n⌉ of the n shingles
    of either. So in any order of all shingles the first n - ⌈t·n⌉ + 1 of the one and of the other have one in common;
    here the rarest come first, so that few texts have it.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self.threshold = threshold
        self._known: dict[str, list[tuple[int, float]]] = {}
        self._shingles = [shingles(text) for text in texts]
        self._counts = Counter(shingle for each in self._shingles for shingle in each)
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, each in enumerate(self._shingles):
            for shingle in self._rarest(each):
                self._places[shingle].append(place)

    def near(self, text: str) -> list[tuple[int, float]]:
        """The places of the texts near to a normalised one, each with its similarity."""
        if text not in self._known:
            self._known[text] = list(self._near(shingles(text)))
        return self._known[text]

    def _near(self, own: Shingles) -> Iterator[tuple[int, float]]:
        least, most = self.threshold * len(own), len(own) / self.threshold
        for place in sorted({place for shingle in self._rarest(own) for place in self._places.get(shingle, ())}):
            if least <= len(self._shingles[place]) <= most:
                value = similarity(own, self._shingles[place])
                if value >= self.threshold:
                    yield place, value

    def _rarest(self, own: Shingles) -> list[str]:
        in_order = sorted(own, key=lambda shingle: (self._counts[shingle], shingle))
        return in_order[: len(own) - ceil(self.threshold * len(own) - 1e-9) + 1]
