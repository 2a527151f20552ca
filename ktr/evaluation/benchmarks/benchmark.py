"""What every benchmark has: its rows read into items, its official rule and metric by name, and how to get it."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ktr.data.row_file import BrokenLine
from ktr.errors import ConfigError, MalformedRow, MissingData, RowError
from ktr.evaluation.benchmarks.converted import converted, is_converted
from ktr.evaluation.benchmarks.files import annotation_files, documents
from ktr.evaluation.benchmarks.item import Fields, Item, Place

NOT_TOLD = "not told"
Metric = Literal["micro", "macro", "answered", "vsi_bench"]


@dataclass(frozen=True)
class SkippedRow:
    """A row that is no item: where it stands, the kind of its fault (a class of ``ktr.errors``), and why."""

    file: str
    index: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """The items of a benchmark; the rows that are none; and how many, by subtask, belong to another part of it."""

    items: list[Item]
    skips: list[SkippedRow] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Benchmark(ABC):
    """A benchmark on disk. A subclass has the constants below and reads one official row.

    Args:
        annotations: its file of rows, official or converted, or a folder of such files.
        media_root: the folder below which its videos are.
        limit: only the first items; all if None.
        allow_missing: items whose media are missing are left out, and every result says how many.
        how_to_get: one sentence on where it comes from.
    """

    annotations: str
    media_root: str
    limit: int | None = None
    allow_missing: bool = False
    how_to_get: str = ""

    name: ClassVar[str]
    rule: ClassVar[str]  # the official one, by its name in ``rules.named``; "lenient" where that is a chat model
    metric: ClassVar[Metric] = "micro"
    rows: ClassVar[int | None] = None  # how many items the whole benchmark has

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"benchmark.limit={self.limit}: give 1 or more, or null for all items")

    @abstractmethod
    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        """What an official row says. Raises a ``RowError``."""

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        """The subtask of a row, official or converted."""
        return str(row.get("original_question_type") or "")

    def groups(self, row: Mapping[str, Any], fields: Fields) -> dict[str, str]:
        """Further names to report by."""
        return {}

    def rows_in(self, document: Any, place: Place) -> Iterator[Any]:
        """The rows of one JSON value of a file: itself, but where rows are nested in it."""
        yield document

    def told(self, row: Mapping[str, Any], keys: Sequence[str], known: Sequence[str], place: Place) -> str:
        """What the row tells at the first of ``keys``, one of ``known``. A converted row may tell nothing."""
        value = next((str(row[key]).strip() for key in keys if row.get(key)), "")
        if value not in known and not is_converted(row):
            raise place.fault(keys[0], f"is {value!r}, and none of {', '.join(known)}")
        return value or NOT_TOLD

    def belongs(self, item: Item) -> bool:
        """Whether an item is of the part that is measured."""
        return True

    def completed(self, items: list[Item]) -> list[Item]:
        """The items with what only all of them together tell."""
        return items

    def load(self) -> Loaded:
        """All rows: items, skips and what is left aside. Raises ``MissingData`` where there is no item."""
        loaded, ids = Loaded([]), set[str]()
        found: list[Item] = []
        for file in self._files():
            for index, row in enumerate(self._rows(file)):
                try:
                    item = self._item(row, Place(file, index))
                except RowError as error:
                    loaded.skips.append(SkippedRow(str(file), index, type(error).__name__, str(error)))
                    continue
                if item.id in ids:
                    item = replace(item, id=f"{item.id}#{len(ids)}")
                ids.add(item.id)
                found.append(item)
        for item in self.completed(found):
            if self.belongs(item):
                loaded.items.append(item)
            else:
                loaded.aside[item.subtask] += 1
        if not loaded.items:
            first = f"; the first: {loaded.skips[0].reason}" if loaded.skips else ""
            reason = f"{self.annotations}: none of its rows is an item of {self.name}{first}"
            raise MissingData(f"{reason}. {self.how_to_get}".rstrip())
        del loaded.items[len(loaded.items) if self.limit is None else self.limit :]
        return loaded

    def _files(self) -> list[Path]:
        try:
            return annotation_files(Path(self.annotations).expanduser())
        except MissingData as error:
            raise MissingData(f"{error}. {self.how_to_get}".rstrip()) from None

    def _rows(self, file: Path) -> Iterator[Any]:
        for index, document in enumerate(documents(file)):
            if isinstance(document, BrokenLine):
                yield document
            else:
                yield from self.rows_in(document, Place(file, index))

    def _item(self, row: Any, place: Place) -> Item:
        if isinstance(row, BrokenLine):
            raise MalformedRow(place.file, place.index, row.reason)
        if not isinstance(row, Mapping):
            raise MalformedRow(place.file, place.index, f"it is of type {type(row).__name__}, and no object")
        fields = converted(row, place) if is_converted(row) else self.official(row, place)
        subtask, groups = self.subtask(row, fields, place), self.groups(row, fields)
        return Item(fields.id, fields.asked, fields.media, fields.start, fields.end, subtask or "all", groups)
