"""Rows that a file says to leave out: the duplicates.jsonl of ``python -m ktr.duplicates``."""

from pathlib import Path
from typing import Any

from ktr.data.row_file import BrokenLine, read_rows
from ktr.data.skips import Skip
from ktr.errors import ConfigError, Duplicate, MissingData


class Exclusion:
    """The rows of ``annotations`` that a file of duplicates names, by their file and their place in it.

    A file that lies elsewhere by now, or on another machine, is known by its name.

    Raises ``MissingData`` where the file cannot be read, and ``ConfigError`` where a line of it names no row.
    """

    def __init__(self, file: Path | str, annotations: Path) -> None:
        self.file, self.annotations = Path(file).expanduser(), annotations
        if not self.file.exists():
            raise MissingData(f"exclude={file}: there is no such file; python -m ktr.duplicates writes it")
        lines: list[dict[str, Any]] = []
        for number, line in enumerate(read_rows(self.file), 1):
            if isinstance(line, BrokenLine) or not isinstance(line, dict) or not {"file", "index", "id"} <= line.keys():
                raise ConfigError(
                    f"exclude={file}: line {number} names no row; python -m ktr.duplicates writes it anew"
                )
            lines.append(line)
        mine = {named for named in {line["file"] for line in lines} if _is_the_file(Path(named), annotations)}
        self._lines = {line["index"]: line for line in lines if line["file"] in mine}

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


def _is_the_file(named: Path, annotations: Path) -> bool:
    return named.name == annotations.name and (not named.exists() or named.samefile(annotations))
