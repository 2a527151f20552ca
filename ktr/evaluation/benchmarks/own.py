"""Questions of one's own: rows in Video-R1's form, or one function from a row to that form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ktr.data.row_file import BrokenLine
from ktr.data.row_format import RowFormat
from ktr.errors import FormatFault
from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, Place


@dataclass(frozen=True)
class OwnBenchmark(Benchmark):
    """Also the embedded worlds, whose rows are in that form.

    Args:
        format: the dotted name of a function from a row to the fields of one in Video-R1's form; none if they are.
    """

    format: str | None = None

    name, rule = "own", "strict"

    def rows_in(self, document: Any, place: Place) -> Iterator[Any]:
        if self.format is None:
            yield document
            return
        try:
            yield _row_format(self.format).fields(document, place.file, place.index)
        except FormatFault as error:
            yield BrokenLine(error.reason)

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        lacking = "problem" if "problem" not in row else "solution"
        raise place.fault(lacking, "is missing")


@cache
def _row_format(name: str) -> RowFormat:
    return RowFormat(name)
