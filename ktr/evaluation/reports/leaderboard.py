"""Models by benchmarks, from their results, with the published rows beside; and what forbids a comparison."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktr.evaluation.asking.identity import hash_of
from ktr.evaluation.asking.results import COLUMNS
from ktr.evaluation.reports.folder import EvaluationFolder, asked_otherwise, incomplete
from ktr.evaluation.reports.row_labels import label_rows
from ktr.tables.published import load, published

OWN = "own"  # the benchmark whose items are whatever a user's file holds
SUBTASKS = {"video_holmes": "video_holmes_subtasks"}  # the published tables of subtasks
FEWEST_SUBTASKS = 3


@dataclass(frozen=True)
class BoardRow:
    """A model's results by column; or, of a row that ``is_published``, the paper's numbers in percent."""

    label: str
    results: Mapping[str, EvaluationFolder]
    published: Mapping[str, float]

    @property
    def is_published(self) -> bool:
        return not self.results


@dataclass(frozen=True)
class Leaderboard:
    """``rows`` of ``columns``, benchmarks by name.

    ``references`` has of each column the result that the others are compared with: as most of them were asked, and of
    these the first. ``notes`` are numbered from 1, and ``marks`` says which of them the result of a folder bears.
    """

    columns: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    references: Mapping[str, EvaluationFolder]
    notes: tuple[str, ...]
    marks: Mapping[Path, tuple[int, ...]]

    def brackets(self, row: BoardRow, column: str) -> str:
        """The numbers of the notes on a result: ``[1] [3]``."""
        return " ".join(f"[{mark}]" for mark in sorted(self.marks[row.results[column].path]))


def leaderboard(results: Sequence[EvaluationFolder]) -> Leaderboard:
    """Rows by how many benchmarks they have, then by mean accuracy, best first; the published ones last."""
    column_of = _columns(results)
    columns = tuple(sorted(dict.fromkeys(column_of.values()), key=_place))
    obtained = [
        BoardRow(label, {column_of[result.path]: result for result in group}, {})
        for label, group in label_rows(results, column_of).items()
    ]
    obtained.sort(key=_rank)
    paper = [
        BoardRow(f"{label}, published", {}, values)
        for label, values in published_rows([column for column in columns if column in COLUMNS]).items()
    ]
    references = {
        column: _reference([row.results[column] for row in obtained if column in row.results]) for column in columns
    }
    notes: dict[str, int] = {}
    marks = {}
    for row in obtained:
        for column, result in row.results.items():
            texts = _notes(column, result, references[column], obtained)
            marks[result.path] = tuple(notes.setdefault(text, len(notes) + 1) for text in texts)
    return Leaderboard(columns, (*obtained, *paper), references, tuple(notes), marks)


def subtasks(board: Leaderboard, column: str) -> list[str]:
    """The names of a column's subtasks, as published ones are ordered; none of a benchmark that has hardly any."""
    of_rows = [row.results[column].summary["by_subtask"] for row in board.rows if column in row.results]
    names = list(dict.fromkeys(name for by_subtask in of_rows for name in by_subtask))
    order = list(published(SUBTASKS.get(column, "")).columns)
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    return names if len(names) >= FEWEST_SUBTASKS else []


def published_rows(columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """The paper's rows with a number for any of these benchmarks, by their labels."""
    table = published("main")
    rows = {
        table.models.get(row, row): {
            column: value for column in columns if (value := values[COLUMNS[column]]) is not None
        }
        for row, values in table.rows.items()
    }
    return {label: values for label, values in rows.items() if values}


def value_of(figures: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The accuracy of a whole or a subtask with the ends of its interval, in percent; of numbers their mean relative
    accuracy. None where no item has a reply."""
    for measure in ("accuracy", "mra"):
        if figures.get(measure) is not None:
            return tuple(100 * figures[key] for key in (measure, f"{measure}_low", f"{measure}_high"))  # pyright: ignore[reportReturnType]
    return None


def about_columns(board: Leaderboard) -> Iterator[str]:
    """How each column was asked, one sentence each, and where the published rows are from."""
    for column, result in board.references.items():
        identity = result.identity
        yield (
            f"{column}: {identity['benchmark']['num_items']} items, rule {identity['rule']}, official figure "
            f"{result.summary['official']['metric']}."
        )
    if any(row.is_published for row in board.rows):
        yield f"Published: {load()['source']}; by other code, of all items, without an interval."


def _columns(results: Sequence[EvaluationFolder]) -> dict[Path, str]:
    """The column of each result, by its folder. Two files of one's own are two benchmarks."""
    hashes = {result.identity["benchmark"]["hash"] for result in results if result.benchmark == OWN}
    return {
        result.path: f"{OWN} {result.identity['benchmark']['hash'][:6]}"
        if result.benchmark == OWN and len(hashes) > 1
        else result.benchmark
        for result in results
    }


def _place(column: str) -> tuple[int, str]:
    return ([*COLUMNS].index(column) if column in COLUMNS else len(COLUMNS), column)


def _rank(row: BoardRow) -> tuple[float, ...]:
    values = [value[0] for result in row.results.values() if (value := value_of(result.summary)) is not None]
    return -len(values), -sum(values) / max(1, len(values))


def _reference(results: Sequence[EvaluationFolder]) -> EvaluationFolder:
    asked = [hash_of(result.how_asked) for result in results]
    most = max(Counter(asked).values())
    return next(result for result, how in zip(results, asked, strict=True) if asked.count(how) == most)


def _notes(
    column: str, result: EvaluationFolder, reference: EvaluationFolder, rows: Sequence[BoardRow]
) -> Iterator[str]:
    if told := asked_otherwise(reference, result):
        label = next(row.label for row in rows if row.results.get(column) is reference)
        yield f"{column}: not comparable, asked otherwise than {label}: {'; '.join(told)}."
    if lacking := incomplete(result):
        yield f"{column}: {'; '.join(lacking)}."
