"""Texts that are nearly equal, found without comparing each with each.

The similarity is Jaccard's, |a ∩ b| / |a ∪ b|, of the sets of five characters in a row of the normalised texts: a
changed word costs a part of it, and punctuation, case and width of letters nothing. Sets of five words would be too
coarse: a question has twelve words, and one that is spelled otherwise would leave three of its eight sets.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil

from ktr.data.row_media import MARKER
from ktr.evaluation.rules.asked import labelled

WORD = re.compile(r"\w+")
SIZE = 5
SIGNATURE_BITS = 1024


def normalised(question: str, options: Sequence[str] = ()) -> str:
    """The words of a question and of its options in small letters, each on a line; without markers of media.

    Options are in the order of the alphabet and without their labels, for files put them in another order.
    """
    return "\n".join([_words(question), *sorted(map(_words, labelled(options).values()))])


def _words(text: str) -> str:
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", MARKER.sub(" ", text)).casefold()))


def shingles(text: str) -> frozenset[str]:
    """All ``SIZE`` characters in a row of each line of a normalised text; a line itself where it is shorter."""
    lines = filter(None, text.split("\n"))
    return frozenset(line[place : place + SIZE] for line in lines for place in range(max(1, len(line) - SIZE + 1)))


class NearTexts:
    """Finds those of ``texts``, all normalised, that are at least ``threshold`` similar to another.

    Exactly, by an inverted index of a few shingles of each. Two texts at least t similar share ⌈t·n⌉ of the n shingles
    of either. So in any order of all shingles the first n - ⌈t·n⌉ + 1 of the one and of the other have one in common;
    here the rarest come first, so that few texts have it. Of these most are told apart by signatures, bits of hashes: a
    bit that one has and the other lacks is a shingle that they do not share.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self.threshold = threshold
        self._shingles = [shingles(text) for text in texts]
        self._signatures = [_signature(each) for each in self._shingles]
        self._counts = Counter(shingle for each in self._shingles for shingle in each)
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, each in enumerate(self._shingles):
            for shingle in self._rarest(each):
                self._places[shingle].append(place)

    def near(self, text: str) -> list[tuple[int, float]]:
        """The places of the texts near to a normalised one, each with its similarity."""
        own, found = shingles(text), list[tuple[int, float]]()
        signature = _signature(own)
        for place in sorted({place for shingle in self._rarest(own) for place in self._places.get(shingle, ())}):
            other = self._shingles[place]
            both, most = len(own) + len(other), len(own) - (signature & ~self._signatures[place]).bit_count()
            if most >= self.threshold * (both - most):
                shared = len(own & other)
                if shared >= self.threshold * (both - shared):
                    found.append((place, shared / (both - shared)))
        return found

    def _rarest(self, own: frozenset[str]) -> list[str]:
        in_order = sorted(own, key=lambda shingle: (self._counts[shingle], shingle))
        return in_order[: len(own) - ceil(self.threshold * len(own) - 1e-9) + 1] if own else []


def _signature(own: frozenset[str]) -> int:
    bits = 0
    for shingle in own:
        bits |= 1 << hash(shingle) % SIGNATURE_BITS
    return bits
