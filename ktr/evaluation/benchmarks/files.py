"""The rows of annotation files: a JSON list or object, JSON lines, CSV, or a folder of such files."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ktr.data.row_file import BrokenLine, parquet_fault, read_rows
from ktr.errors import MissingData

ENDINGS = (".json", ".jsonl", ".csv", ".tsv")


def annotation_files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder by name. Raises ``MissingData`` where none can be read."""
    if not path.exists():
        raise MissingData(f"{path} does not exist")
    files = sorted(file for file in path.iterdir() if file.suffix in ENDINGS) if path.is_dir() else [path]
    parquet = path if path.suffix == ".parquet" else next(iter(sorted(path.glob("*.parquet"))), None)
    if parquet is not None and (path.suffix == ".parquet" or not files):
        raise parquet_fault(parquet)
    if not files:
        raise MissingData(f"{path} holds no file that ends in {', '.join(ENDINGS)}")
    return files


def documents(file: Path) -> Iterator[Any]:
    """The rows of a file in order, each as JSON has it, or a ``BrokenLine``; the one object of a file that is one."""
    if file.suffix in (".csv", ".tsv"):
        yield from _table(file)
        return
    whole = _whole_object(file)
    if whole is None:
        yield from read_rows(file)
    else:
        yield whole


def _whole_object(file: Path) -> dict[str, Any] | None:
    """The object that a file is, over several lines or on a single one; None of a list, and of JSON lines."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        value = json.loads(text) if text.lstrip().startswith("{") and file.suffix != ".jsonl" else None
    except ValueError:
        return None
    except OSError as error:
        raise MissingData(f"{file} cannot be read: {error}; correct or fetch it again") from None
    return value if isinstance(value, dict) else None


def _table(file: Path) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","):
                if None in row or None in row.values():
                    yield BrokenLine("it has another number of columns than the first line")
                else:
                    yield dict(row)
    except (OSError, ValueError, csv.Error) as error:
        raise MissingData(f"{file} cannot be read: {error}; correct or fetch it again") from None
