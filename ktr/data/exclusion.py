"""Rows that a file says to leave out: the duplicates.jsonl of ``python -m ktr.duplicates``."""

from pathlib import Path
from typing import Any

from ktr.data.row_file import BrokenLine, read_rows
from ktr.data.skips import Skip
from ktr.errors import ConfigError, Duplicate, MissingData


class Exclusion:
    """The rows of ``annotations`` that a file of duplicates names, by the name of their file and their place in it.

    Raises ``MissingData`` where the file cannot be read, and ``ConfigError`` where a line of it names no row.
    """

    def __init__(self, file: Path | str, annotations: Path) -> None:
        self.file, self.annotations = Path(file).expanduser(), annotations
        if not self.file.exists():
            raise MissingData(f"exclude={file}: there is no such file; python -m ktr.duplicates writes it")
        self._lines: dict[int, dict[str, Any]] = {}
        for number, line in enumerate(read_rows(self.file), 1):
            if isinstance(line, BrokenLine) or not isinstance(line, dict) or not {"file", "index", "id"} <= line.keys():
                raise ConfigError(
                    f"exclude={file}: line {number} names no row; python -m ktr.duplicates writes it anew"
                )
            if Path(line["file"]).name == annotations.name:
                self._lines[line["index"]] = line

    def skip(self, index: int, id: str) -> Skip | None:
        """The skip of a row that is named. Raises ``ConfigError`` where the row that was meant has another id."""
        line = self._lines.get(index)
        if line is None:
            return None
        if line["id"] != id:
            other = f"row {index} is {line['id']} there and {id} in {self.annotations}"
            remedy = "it was made of another file of that name; run python -m ktr.duplicates anew"
            raise ConfigError(f"exclude={self.file}: {other}: {remedy}")
        kinds = ", ".join(line.get("kinds", ()))
        told = f"it is one of {line.get('benchmark', 'a benchmark')}, item {line.get('item')} ({kinds})"
        return Skip.of_row(Duplicate(self.annotations, index, told), self.annotations, index, id)
