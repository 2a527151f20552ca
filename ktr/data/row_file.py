"""The rows of an annotation file, one at a time: a JSON list, or JSON lines."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ktr.data.media_file import LFS_POINTER, NOT_FETCHED
from ktr.errors import MissingData

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PARQUET = b"PAR1"
START = len(LFS_POINTER)  # the longest of what a file may start with
BETWEEN_ROWS = re.compile(r"\s*([\],]?)\s*")


@dataclass(frozen=True)
class BrokenLine:
    """A line that is no JSON: one bad row, and no more than that."""

    reason: str


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < 1000 else float("inf")  # Python refuses to read one of more than 4,300 digits


class WrittenFloat(float):
    """A number that is written as the file has it: 4.50 is not 4.5."""

    def __init__(self, written: str) -> None:
        self.written = str(written)

    def __str__(self) -> str:
        return self.written


_DECODER = json.JSONDecoder(parse_int=_whole_number, parse_float=WrittenFloat)


def read_rows(annotations: Path) -> Iterator[Any]:
    """Rows in file order, each as its JSON value; a line that is not JSON is a ``BrokenLine``.

    A file named .jsonl has lines; another one too, unless it starts with "[". Raises ``MissingData`` where the file
    cannot be read, or its list cannot.
    """
    try:
        with annotations.open("rb") as file:
            start = file.read(START)
            if start.startswith(PARQUET):
                raise parquet_fault(annotations)
            if start.startswith(LFS_POINTER):
                raise MissingData(f"{annotations} is {NOT_FETCHED}")
            file.seek(len(BYTE_ORDER_MARK) if start.startswith(BYTE_ORDER_MARK) else 0)
            blank = []
            for line in file:
                if line.strip():
                    is_list = annotations.suffix != ".jsonl" and line.lstrip().startswith(b"[")
                    yield from (
                        _rows_of_list((line + file.read()).decode(), annotations)
                        if is_list
                        else _rows_of_lines(chain(blank, [line], file))
                    )
                    return
                blank.append(line)
    except (OSError, UnicodeDecodeError) as error:
        raise MissingData(f"{annotations} cannot be read: {error}; correct or fetch it again") from None


def parquet_fault(file: Path) -> MissingData:
    return MissingData(
        f"{file} is a Parquet file, which needs pyarrow: where it is installed, write it as JSON lines by python -c "
        f"\"import pandas; pandas.read_parquet('{file}').to_json('{file.with_suffix('.jsonl')}', orient='records', "
        'lines=True)", and give that file'
    )


def _rows_of_list(text: str, annotations: Path) -> Iterator[Any]:
    place, index = text.index("[") + 1, 0
    try:
        while True:
            between = BETWEEN_ROWS.match(text, place)
            assert between is not None
            place = between.end()
            if between[1] == "]":
                break
            if (between[1] == ",") != (index > 0):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            row, place = _DECODER.raw_decode(text, place)
            yield row
            index += 1
        if place < len(text):
            raise json.JSONDecodeError("Extra data", text, place)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = f"{annotations} is not a JSON list, at row {index}: {error}; correct or fetch it again"
        raise MissingData(reason) from None


def _rows_of_lines(lines: Iterator[bytes]) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _DECODER.decode(line.decode())
            except (ValueError, RecursionError) as error:
                yield BrokenLine(f"line {number} is not JSON ({error})")
