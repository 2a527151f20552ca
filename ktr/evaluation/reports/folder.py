"""The folders of evaluations, read back: each with who was asked, and how."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktr.errors import MissingData
from ktr.evaluation.asking.identity import differences
from ktr.record.json_file import read_object

KEYS = {"name", "benchmark", "identity", "summary", "model"}
OF_THE_MODEL = ("model", "endpoint")  # what rows of a leaderboard are about


@dataclass(frozen=True)
class EvaluationFolder:
    """One result; ``path`` is its folder."""

    path: Path
    result: Mapping[str, Any]

    @property
    def benchmark(self) -> str:
        return self.result["benchmark"]

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.result["identity"]

    @property
    def summary(self) -> Mapping[str, Any]:
        return self.result["summary"]

    @property
    def named(self) -> Mapping[str, str]:
        """Who was asked: ``model``, the folder of a policy or the name of a served model, and ``adapter``, if any."""
        return {key: self.result[key] for key in ("model", "adapter") if self.result.get(key)}

    @property
    def of_model(self) -> Mapping[str, Any]:
        """What the identity says of the model alone: weights, number format, adapters; or all of an endpoint."""
        return {key: self.identity[key] for key in OF_THE_MODEL if key in self.identity}

    @property
    def how_asked(self) -> dict[str, Any]:
        """What the identity says but of the model."""
        asked = {key: value for key, value in self.identity.items() if key not in OF_THE_MODEL}
        endpoint = self.identity.get("endpoint")
        return asked if endpoint is None else asked | {"engine": {"_target_": endpoint["_target_"]}}


def evaluations_below(folders: Sequence[Path]) -> list[EvaluationFolder]:
    """As ``results_below``, but raises ``MissingData`` where there is none."""
    if not (results := results_below(folders)):
        raise MissingData(
            f"{', '.join(map(str, folders))}: no results.json of an evaluation there or below; name folders of python "
            "-m ktr.evaluate benchmark=…, which ends with it"
        )
    return results


def results_below(folders: Iterable[Path]) -> list[EvaluationFolder]:
    """The results of evaluations in and below the folders, each once, by path; a results.json of another kind is none.

    Raises ``MissingData`` where a folder is not there, or a file is damaged.
    """
    found = {path.resolve(): path for folder in folders for path in _files(folder)}
    read = [EvaluationFolder(path.parent, read_object(path) or {}) for _, path in sorted(found.items())]
    return [result for result in read if result.result.keys() >= KEYS]


def _files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise MissingData(f"{folder}: no such folder; name a folder with results, such as runs/<name>")
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "results.json" in names:
            yield Path(parent) / "results.json"


def asked_otherwise(first: EvaluationFolder, second: EvaluationFolder) -> list[str]:
    """What differs in how two models were asked, and would change a number; what the models are is left out.

    An endpoint has no versions to compare.
    """
    one, other = first.how_asked, second.how_asked
    if "versions" not in one or "versions" not in other:
        one, other = ({key: asked[key] for key in asked if key != "versions"} for asked in (one, other))
    return list(differences(one, other))


def incomplete(result: EvaluationFolder) -> list[str]:
    """What of its benchmark a result does not cover, one phrase each; none where all of it was answered."""
    summary, benchmark, told = result.summary, result.identity["benchmark"], []
    if benchmark.get("limit") is not None:
        told.append(f"the first {benchmark['num_items']} items alone")
    if summary["left_out"]:
        kinds = [f"{summary['outcomes'][name]} {name}" for name in ("failed", "media_missing")]
        told.append(
            f"{summary['n']} of {summary['n'] + summary['left_out']} items answered "
            f"({', '.join(kind for kind in kinds if not kind.startswith('0 '))}; with them as wrong "
            f"{100 * summary['accuracy_of_all']:.1f})"
        )
    if benchmark.get("allow_missing"):
        told.append("asked with benchmark.allow_missing=true")
    if skipped := result.result.get("rows_skipped"):
        told.append(f"{skipped} rows of its file are no items")
    return told
