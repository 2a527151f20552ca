"""The folder of an evaluation, read back: results.json and items.jsonl."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktr.errors import MissingData
from ktr.evaluation.asking.items_file import ItemsFile, Line
from ktr.record.json_file import read_object, unreadable

RESULTS, ITEMS = "results.json", "items.jsonl"
NEEDED = ("benchmark", "identity", "summary", "model", "name")


@dataclass(frozen=True)
class EvaluationFolder:
    """One result; ``path`` is its folder."""

    path: Path
    result: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "EvaluationFolder":
        """Raises ``MissingData`` where there is no whole result."""
        result = read_object(path / RESULTS)
        if result is None:
            more = "; the evaluation has not ended: start it again, and it goes on" if (path / ITEMS).exists() else ""
            raise MissingData(
                f"{path}: there is no {RESULTS}{more}. Name a folder of python -m ktr.evaluate benchmark=…"
            )
        if lacking := [key for key in NEEDED if key not in result]:
            raise MissingData(unreadable(path / RESULTS, f"it has no {lacking[0]}"))
        return cls(path, result)

    @property
    def benchmark(self) -> str:
        return self.result["benchmark"]

    @property
    def identity(self) -> dict[str, Any]:
        return self.result["identity"]

    @property
    def summary(self) -> dict[str, Any]:
        return self.result["summary"]

    def lines(self) -> list[Line]:
        """The items. Raises ``MissingData`` where they are not there."""
        if not (self.path / ITEMS).exists():
            raise MissingData(f"{self.path}: there is no {ITEMS}; put it back")
        return [*ItemsFile(self.path / ITEMS).lines.values()]


def is_evaluation(path: Path) -> bool:
    return (path / ITEMS).exists() or (path / RESULTS).exists()


def evaluations_below(folders: Sequence[Path]) -> list[EvaluationFolder]:
    """All results in these folders and below them, by path. Raises ``MissingData`` where one has none."""
    found: dict[Path, EvaluationFolder] = {}
    for folder in folders:
        files = sorted(folder.rglob(RESULTS))
        if not files:
            raise MissingData(f"{folder}: there is no {RESULTS} in it or below; name folders of python -m ktr.evaluate")
        for file in files:
            found[file.parent.resolve()] = EvaluationFolder.read(file.parent)
    return [*found.values()]
