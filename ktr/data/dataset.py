"""Questions from annotation files in the Video-R1 format, or in another that a function reads.

A row that cannot become a question is skipped under a typed kind, and the skip is kept in ``QuestionDataset.skips``
with the row's index and id. A file that gives no question at all is an error.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ktr import errors
from ktr.data.exclusion import Exclusion
from ktr.data.media_file import MediaRoot
from ktr.data.row_file import BrokenLine, read_rows
from ktr.data.row_format import RowFormat
from ktr.data.rows import question_from_row, row_id
from ktr.data.skips import Skip
from ktr.types import VideoQuestion


class QuestionDataset(Dataset[VideoQuestion]):
    """The usable rows of a file (a JSON list, or JSON lines), in file order.

    Args:
        annotations: the file of rows.
        media_root: the folder that the rows' paths are relative to and must stay in, symbolic links resolved.
        limit: reads rows until so many are usable; all if None.
        how_to_get: one sentence on where the data comes from, for the error of who lacks it.
        format: a function from a row to the fields of one in the Video-R1 format, or its dotted name; none if they are.
        exclude: a file of rows to leave out, each a skip; see ``ktr.data.exclusion``.

    Ids are those of records and of random numbers: a row whose id an earlier one has gets its place behind it, as in
    ``17#203``, for files that were put together count anew. Raises ``MissingData`` where the file or the folder is
    missing, the file is not JSON, or no row is usable, and ``ConfigError`` where ``format`` is no such function or
    ``limit`` is less than 1.
    """

    def __init__(
        self,
        annotations: Path | str,
        media_root: Path | str,
        limit: int | None = None,
        how_to_get: str = "",
        format: Callable[[Any], Mapping[str, Any]] | str | None = None,
        exclude: Path | str | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise errors.ConfigError(f"limit={limit}: give 1 or more, or null for all rows")
        row_format = None if format is None else RowFormat(format)
        self.annotations, self.media_root = Path(annotations).expanduser(), Path(media_root).expanduser()
        for path in (self.annotations, self.media_root):
            if not path.exists():
                raise errors.MissingData(f"{path} does not exist. {how_to_get}".rstrip())
        root, ids = MediaRoot(self.media_root), set[str]()
        exclusion = None if exclude is None else Exclusion(exclude, self.annotations)
        self.questions: list[VideoQuestion] = []
        self.skips: list[Skip] = []
        for index, question in read_questions(self.annotations, root, row_format):
            if len(self.questions) == limit:
                break
            if isinstance(question, VideoQuestion) and exclusion is not None:
                question = exclusion.skip(index, question.id) or question
            if isinstance(question, Skip):
                self.skips.append(question)
                continue
            if question.id in ids:
                question = replace(question, id=f"{question.id}#{index}")
            ids.add(question.id)
            self.questions.append(question)
        if not self.questions:
            first = f"; the first: {self.skips[0].reason}" if self.skips else ""
            hint = f" {how_to_get}" if how_to_get else ""
            raise errors.MissingData(f"{self.annotations}: none of its {len(self.skips)} rows is usable{first}.{hint}")

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> VideoQuestion:
        return self.questions[index]


def read_questions(
    annotations: Path, root: MediaRoot, row_format: RowFormat | None = None
) -> Iterator[tuple[int, VideoQuestion | Skip]]:
    """Each row of a file with its index: its question, by the id of its own, or the skip that it is.

    Raises ``MissingData`` where the file cannot be read.
    """
    for index, row in enumerate(read_rows(annotations)):
        try:
            if isinstance(row, BrokenLine):
                raise errors.MalformedRow(annotations, index, row.reason)
            yield index, _question(row, annotations, index, root, row_format)
        except (errors.RowError, errors.MediaError) as error:
            yield index, Skip.of_row(error, annotations, index, row_id(row, annotations, index))


def _question(row: Any, file: Path, index: int, root: MediaRoot, row_format: RowFormat | None) -> VideoQuestion:
    if row_format is None:
        return question_from_row(row, file, index, root)
    fields = row_format.fields(row, file, index)
    try:
        return question_from_row(fields, file, index, root)
    except errors.RowError as error:
        raise type(error)(error.file, error.row, f"{error.reason}, as {row_format.name} gives it") from error
