"""A CSV file with one row for each training step that survives a kill.

- A row is written and flushed when it is logged. Whatever is logged at the same step joins its row.
- Columns: ``step``, then all names in alphabetical order, so that the header doesn't depend on which came first. A new
  name (a validation's) rewrites the file with a wider header; cells without a value are empty.
- Numbers are written by ``repr``, the shortest text that reads back as the same float.
- The first step written by a process says where it resumed: later rows of an earlier process are dropped, and with
  them the columns that only they had.

So a run killed at any step and resumed leaves the bytes of a run never killed, if the values are the same.
"""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from ktr.errors import naming


class StepTable:
    """A CSV file with one row for each step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[int, dict[str, str]] | None = None  # read at the first update, when the run folder is settled
        self._columns: list[str] = []
        self._last_row_at = 0

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Merge ``values`` into the row of ``step`` and bring the file up to date."""
        with naming(self.path):
            self._update(step, values)

    def _update(self, step: int, values: Mapping[str, float]) -> None:
        rewrite = self.rows is None or any(name not in self._columns for name in values)
        if self.rows is None:
            self.rows = {at: row for at, row in read_rows(self.path).items() if at <= step}
        is_last = not self.rows or step >= next(reversed(self.rows))
        is_new = step not in self.rows
        self.rows.setdefault(step, {}).update({name: repr(float(value)) for name, value in values.items()})
        if rewrite or not is_last:
            self.write()
        else:
            self._write_last_row(step, replace=not is_new)

    def write(self) -> None:
        """Write the whole file anew."""
        assert self.rows is not None
        self.rows = dict(sorted(self.rows.items()))
        self._columns = sorted({name for row in self.rows.values() for name in row})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(["step", *self._columns])
            for step in self.rows:
                self._last_row_at = file.tell()
                self._write_row(file, step)
        os.replace(partial, self.path)

    def _write_last_row(self, step: int, replace: bool) -> None:
        with self.path.open("r+", newline="", encoding="utf-8") as file:
            self._last_row_at = file.seek(self._last_row_at) if replace else file.seek(0, os.SEEK_END)
            file.truncate()
            self._write_row(file, step)

    def _write_row(self, file: TextIO, step: int) -> None:
        assert self.rows is not None
        row = self.rows[step]
        csv.writer(file, lineterminator="\n").writerow([step, *(row.get(name, "") for name in self._columns)])


def drop_rows_after(path: Path, step: int) -> None:
    """Cut off the rows of later steps, and the columns that only they had, for a run that goes on from ``step``."""
    table, rows = StepTable(path), read_rows(path)
    table.rows = {at: row for at, row in rows.items() if at <= step}
    if len(table.rows) < len(rows):
        table.write()


def read_columns(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Each column of a table as (steps, values), empty cells left out; empty if there is no file."""
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for step, row in sorted(read_rows(path).items()):
        for name, text in row.items():
            steps, values = columns.setdefault(name, ([], []))
            steps.append(step)
            values.append(float(text))
    return columns


def read_rows(path: Path) -> dict[int, dict[str, str]]:
    """The cells of a table by step and name, without empty cells and without a torn last line."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    rows = {}
    for row in csv.DictReader(complete):
        step = int(row.pop("step"))
        rows[step] = {name: text for name, text in row.items() if text}
    return rows
