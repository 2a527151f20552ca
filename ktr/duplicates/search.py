"""Training rows beside the items of benchmarks: which have the same media, or nearly the same question and options.

rows and items ─► hashes of media (kept) ─► by kind what each medium and text meets ─► one line a row and benchmark
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ktr.console.progress_line import track
from ktr.duplicates.found import KINDS, Found, Match
from ktr.duplicates.frame_hash import FrameHashes
from ktr.duplicates.hash_store import HashStore
from ktr.duplicates.media_hashes import MediaHashes
from ktr.duplicates.near_texts import NearTexts
from ktr.duplicates.sides import Row, Side
from ktr.errors import ConfigError
from ktr.types import MediaFile

K = TypeVar("K", bound=Hashable)
Matches = Mapping[Hashable, Sequence[Match]]  # by medium, or by text


@dataclass(frozen=True)
class Search:
    """How rows are compared.

    Args:
        kinds: which of ``KINDS`` are looked for. ``same_frames`` decodes all videos once, the others none.
        max_distance: of the 64 bits of a frame's hash, how many may differ.
        min_similarity: of two questions with their options.
        num_decoders: processes that decode videos.
        store: the file in which hashes of media are kept.
    """

    kinds: Sequence[str]
    max_distance: int
    min_similarity: float
    num_decoders: int
    store: Path | str

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ConfigError(f"kinds={unknown[0]}: choose some of {', '.join(KINDS)}")
        if not 0 < self.min_similarity <= 1:
            raise ConfigError(f"min_similarity={self.min_similarity}: it lies in (0, 1]")
        if self.num_decoders < 1:
            raise ConfigError(f"num_decoders={self.num_decoders}: it is 1 at least")

    def run(self, train: Side, benchmarks: Mapping[str, Side]) -> Found:
        """Each training row beside all items."""
        items = [item for side in benchmarks.values() for item in side.rows]
        matches: dict[str, Matches] = {}
        with closing(HashStore(self.store)) as store:
            hashes = MediaHashes(store, self.num_decoders)
            if "same_file" in self.kinds:
                matches["same_file"] = _same_files(train.media, items, hashes)
            if "same_frames" in self.kinds:
                matches["same_frames"] = _same_frames(train.media, items, hashes, self.max_distance)
        if "same_question" in self.kinds:
            matches["same_question"] = _same_questions(train.rows, items, self.min_similarity)
        found = Found(train, benchmarks, Counter(hashes.faults.values()))
        for row in train.rows:
            met = {
                kind: [match for key in (row.text, *row.media) for match in of.get(key, ())]
                for kind, of in matches.items()
            }
            found.add(row, items, met)
        return found


def _same_files(trained: set[MediaFile], items: Sequence[Row], hashes: MediaHashes) -> Matches:
    """By files of equal content."""
    places = _by((file, place) for place, item in enumerate(items) for file in item.media)
    contents = hashes.contents({file.path for file in trained}, {file.path for file in places})
    asked = {file: contents[file.path] for file in places if file.path in contents}
    by_content = _by((content, place) for file, content in asked.items() for place in places[file])
    return {file: [(place, 1.0) for place in by_content.get(contents.get(file.path, b""), ())] for file in trained}


def _same_frames(trained: set[MediaFile], items: Sequence[Row], hashes: MediaHashes, max_distance: int) -> Matches:
    """By looks: videos beside videos, pictures beside pictures."""
    near: dict[Hashable, list[Match]] = defaultdict(list)
    places = _by((file, place) for place, item in enumerate(items) for file in item.media)
    for kind in ("video", "image"):
        asked, others = ([file for file in files if file.kind == kind] for files in (places, trained))
        if not asked or not others:
            continue
        looks = hashes.frames({*asked, *others})
        known = [file for file in others if file in looks]
        if not known:  # none can be read
            continue
        index = FrameHashes([looks[file] for file in known], max_distance)
        for file in track([file for file in asked if file in looks], f"compare {kind}s", len(asked)):
            for at, value in index.near(looks[file]):
                near[known[at]] += [(place, value) for place in places[file]]
    return near


def _same_questions(rows: Sequence[Row], items: Sequence[Row], min_similarity: float) -> Matches:
    """By question and options."""
    places = _by((item.text, place) for place, item in enumerate(items) if item.text.strip())
    index, known = NearTexts(list(places), min_similarity), list(places.values())
    texts = dict.fromkeys(row.text for row in rows)
    return {
        text: [(place, round(value, 3)) for at, value in index.near(text) for place in known[at]]
        for text in track(texts, "compare texts", len(texts))
    }


def _by(pairs: Iterable[tuple[K, int]]) -> dict[K, list[int]]:
    """The places by what is there."""
    places: dict[K, list[int]] = defaultdict(list)
    for key, place in pairs:
        places[key].append(place)
    return dict(places)
