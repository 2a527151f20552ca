"""The two sides that are compared, training files and benchmarks, in one form: what is asked about which files."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from ktr.console.progress_line import track
from ktr.data.dataset import read_questions
from ktr.data.media_file import MediaRoot
from ktr.data.row_format import RowFormat
from ktr.data.skips import Skip
from ktr.duplicates.near_texts import normalised
from ktr.errors import ConfigError, MediaError
from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.types import MediaFile


@dataclass(frozen=True)
class Row:
    """A row of a training file, or an item of a benchmark: its normalised text, and of its media those that are there.

    ``source`` is the file, or the benchmark's name.
    """

    source: str
    index: int
    id: str
    text: str
    media: tuple[MediaFile, ...]


@dataclass(frozen=True)
class Side:
    """The rows of one side, and what is not there of it: rows that are none, by kind, and media."""

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    missing: set[Path] = field(default_factory=set)

    @property
    def media(self) -> set[MediaFile]:
        """The files that are there, each once."""
        return {file for row in self.rows for file in row.media}


class AnyMedia(MediaRoot):
    """A media root that gives a path for each file, also for one that is ``lost``: its row is compared by the rest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lost: set[Path] = set()

    def file(self, relative: str) -> Path:
        try:
            return super().file(relative)
        except MediaError as error:
            self.lost.add(Path(error.path))
            return Path(error.path)


def training_rows(node: DictConfig) -> Side:
    """All rows of the files of a data set of conf/data, whatever is taken of them; a mixture's are those of its parts.

    Raises ``ConfigError`` of a data set without a file.
    """
    side = Side()
    for annotations, media_root, row_format in _files(node):
        root = AnyMedia(media_root)
        for index, question in track(read_questions(annotations, root, row_format), f"read {annotations.name}", None):
            if isinstance(question, Skip):
                side.skipped[question.kind] += 1
                continue
            media = tuple(file for file in question.media if file.path not in root.lost)
            text = normalised(question.problem, question.options)
            side.rows.append(Row(str(annotations), index, question.id, text, media))
        side.missing.update(root.lost)
    return side


def benchmark_rows(name: str, benchmark: Benchmark) -> Side:
    """The items of a benchmark, their media as whole files. Raises ``MissingData`` where it has none."""
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
        side.rows.append(Row(name, index, item.id, normalised(item.asked.question, item.asked.options), tuple(media)))
    return side


def _files(node: DictConfig) -> Iterator[tuple[Path, Path, RowFormat | None]]:
    """The annotations, media root and format of each file; a data set that is made is made first."""
    if "parts" in node:
        for part in node.parts.values():
            yield from _files(part)
        return
    row_format = node.get("format")
    found = node if "annotations" in node else instantiate(node)
    if not hasattr(found, "annotations"):
        raise ConfigError("data.train is no file of rows, and only such can be compared: give data.validation.rows=…")
    yield Path(found.annotations), Path(found.media_root), None if row_format is None else RowFormat(row_format)
