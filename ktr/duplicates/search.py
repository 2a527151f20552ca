"""Training rows beside the items of benchmarks: which have the same media, names of these, or questions.

rows and items ─► hashes of media (kept) ─► a matcher a kind ─► one line a row and benchmark, and the counts of a table
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ktr.console.progress_line import track
from ktr.duplicates.found import KINDS, Found
from ktr.duplicates.hash_store import HashStore
from ktr.duplicates.matches import Matcher, SameFiles, SameFrames, SameNames, SameQuestions
from ktr.duplicates.media_hashes import content_hashes, frame_hashes
from ktr.duplicates.sides import Row, Side
from ktr.errors import ConfigError


@dataclass(frozen=True)
class Search:
    """How rows are compared.

    Args:
        kinds: which of ``KINDS`` are looked for. ``same_frames`` decodes all videos once, the others none.
        max_distance: of the 64 bits of a frame's hash, how many may differ.
        min_similarity: of two questions, and of their options.
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
        found = Found(train, dict(benchmarks))
        matchers = self._matchers(train, items, found.faults)
        for row in track(train.rows, "compare rows", len(train.rows)):
            found.add(row, items, matchers)
        return found

    def _matchers(self, train: Side, items: Sequence[Row], faults: Counter[str]) -> list[Matcher]:
        matchers: list[Matcher] = []
        asked = Side(list(items)).media
        # Pictures are looked at only where a benchmark has some too, and so are videos.
        trained = {file for file in train.media if file.kind in {other.kind for other in asked}}
        with closing(HashStore(self.store)) as store:
            if "same_file" in self.kinds:
                paths = ({file.path for file in trained}, {file.path for file in asked})
                matchers.append(SameFiles(items, content_hashes(*paths, store, self.num_decoders, faults)))
            if "same_frames" in self.kinds:
                hashes = frame_hashes(trained | asked, store, self.num_decoders, faults)
                matchers.append(SameFrames(items, trained, hashes, self.max_distance))
        if "same_name" in self.kinds:
            matchers.append(SameNames(items))
        if "same_question" in self.kinds:
            matchers.append(SameQuestions(items, self.min_similarity))
        return matchers
