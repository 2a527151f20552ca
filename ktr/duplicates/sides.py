"""The two sides that are compared, training files and benchmarks, in one form: what is asked about which files."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from ktr.console.progress_line import track
from ktr.data.dataset import read_questions
from ktr.data.media_file import MediaRoot
from ktr.data.row_format import RowFormat
from ktr.data.skips import Skip
from ktr.errors import MediaError
from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.types import WHOLE, MediaFile


@dataclass(frozen=True)
class Row:
    """A row of a file, or an item of a benchmark: of its media those that are there, and the names of all."""

    source: str
    index: int
    id: str
    question: str
    options: tuple[str, ...]
    media: tuple[MediaFile, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """The rows of one side, and what is not there of it: rows that are none, by kind, and media."""

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    missing: set[Path] = field(default_factory=set)

    @property
    def media(self) -> set[MediaFile]:
        """The files that are there, each once and as a whole."""
        return {replace(file, clip=WHOLE) for row in self.rows for file in row.media}


class AnyMedia(MediaRoot):
    """A media root that gives a path for each file, also for one that is ``lost``: its row is compared by the rest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lost: set[Path] = set()

    def file(self, relative: str) -> Path:
        try:
            return super().file(relative)
        except MediaError as error:
            self.lost.add(error.path)
            return error.path


def training_rows(node: DictConfig) -> Side:
    """All rows of a data set of conf/data, of all parts of a mixture."""
    side = Side()
    for annotations, media_root, row_format, limit in _files(node):
        root = AnyMedia(media_root)
        questions = islice(read_questions(annotations, root, row_format), limit)
        for index, question in track(questions, f"read {annotations.name}", limit):
            if isinstance(question, Skip):
                side.skipped[question.kind] += 1
                continue
            media = tuple(file for file in question.media if file.path not in root.lost)
            names = tuple(file.path.stem for file in question.media)
            side.rows.append(
                Row(str(annotations), index, question.id, question.problem, question.options, media, names)
            )
        side.missing.update(root.lost)
    return side


def benchmark_rows(name: str, benchmark: Benchmark) -> Side:
    """The items of a benchmark. Raises ``MissingData`` where it has none."""
    loaded, finder = benchmark.load(), MediaFinder(str(Path(benchmark.media_root).expanduser()))
    side = Side(skipped=Counter(skip.kind for skip in loaded.skips))
    for index, item in enumerate(loaded.items):
        media: list[MediaFile] = []
        for medium in item.media:
            path = finder.find(medium)
            if path is None:
                side.missing.add(Path(medium.paths[0]))
            else:
                media.append(MediaFile(path.resolve(), "image" if medium.kind == "image" else "video"))
        names = tuple(Path(medium.paths[0]).stem for medium in item.media)
        side.rows.append(Row(name, index, item.id, item.asked.question, item.asked.options, tuple(media), names))
    return side


def _files(node: DictConfig) -> Iterator[tuple[Path, Path, RowFormat | None, int | None]]:
    """The annotations, media root, format and limit of each file; a data set that is made is made first."""
    if "parts" in node:
        for part in node.parts.values():
            yield from _files(part)
        return
    made: Any = node if "annotations" in node else instantiate(node)
    row_format, limit = (getattr(made, key, None) for key in ("format", "limit"))
    yield Path(made.annotations), Path(made.media_root), row_format and RowFormat(row_format), limit
