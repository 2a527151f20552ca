"""Questions of one's own: rows in Video-R1's form, or one function from a row to that form."""

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ktr.data.row_file import BrokenLine
from ktr.errors import ConfigError
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
            function = pkgutil.resolve_name(self.format)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"format={self.format}: there is no such function ({error})") from error
        try:
            yield function(document)
        except Exception as error:  # someone else's code may raise anything, and a row is one skip
            yield BrokenLine(f"{self.format} raised {type(error).__name__}: {error}")

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        lacking = "problem" if "problem" not in row else "solution"
        raise place.fault(lacking, "is missing")
