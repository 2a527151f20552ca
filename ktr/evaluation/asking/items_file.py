"""items.jsonl: one line an item, written as it ends, by one process; a run that was killed goes on behind it."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ktr.errors import MissingData, naming
from ktr.record.json_file import unreadable, write_whole

Line = dict[str, Any]


class ItemsFile:
    """The lines of a run by item id. A torn last line, of a process that was killed, is cut off.

    Raises ``MissingData`` where another line is no JSON object with an id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, Line] = {}
        self._file: IO[str] | None = None
        if path.exists():
            self.lines, whole = _read(path)
            if whole < path.stat().st_size:
                _cut(path, whole)

    def append(self, line: Line) -> None:
        """Write one item's line. What was written outlives a killed process."""
        with naming(self.path):
            if self._file is None:
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(_written(line))
            self._file.flush()
        self.lines[line["id"]] = line

    def drop(self, is_asked_again: Callable[[Line], bool]) -> int:
        """Take out the lines of items that are asked again; how many they were."""
        kept = {id: line for id, line in self.lines.items() if not is_asked_again(line)}
        num_dropped = len(self.lines) - len(kept)
        if num_dropped:
            self.lines = kept
            self._rewrite()
        return num_dropped

    def put_in_order(self, ids: Sequence[str]) -> None:
        """Write the lines anew in the order of ``ids``: a whole run's file is the same whatever ended first."""
        place = {id: index for index, id in enumerate(ids)}
        self.lines = dict(sorted(self.lines.items(), key=lambda entry: place[entry[0]]))
        self._rewrite()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self) -> None:
        self.close()
        write_whole(self.path, "".join(map(_written, self.lines.values())))


def read_lines(folder: Path) -> list[Line]:
    """The lines in a run's folder, of a run that goes on too: nothing is written, and a torn last line is left out.

    Raises ``MissingData`` where there is no items.jsonl, or one that cannot be read.
    """
    path = folder / "items.jsonl"
    if not path.is_file():
        raise MissingData(f"{folder}: no items.jsonl; name a folder of python -m ktr.evaluate benchmark=…")
    return [*_read(path)[0].values()]


def _read(path: Path) -> tuple[dict[str, Line], int]:
    """The lines by id, and how many bytes they are."""
    lines: dict[str, Line] = {}
    whole = 0
    with naming(path), path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                break
            whole += len(raw)
            line = _parsed(raw)
            if line is None:
                raise MissingData(unreadable(path, f"line {number} is no item"))
            lines[line["id"]] = line
    return lines, whole


def _cut(path: Path, size: int) -> None:
    with naming(path), path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())


def _written(line: Mapping[str, Any]) -> str:
    text = json.dumps(line, ensure_ascii=False)
    return text.encode("utf-8", errors="backslashreplace").decode() + "\n"


def _parsed(raw: bytes) -> Line | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("id"), str) and "outcome" in line else None
