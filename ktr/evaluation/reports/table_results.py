"""Results of evaluations as values of a table's rows: of a run's policy by its place, of other models by a label."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ktr.errors import InputError
from ktr.evaluation.asking.results import COLUMNS
from ktr.evaluation.reports.folder import (
    EvaluationFolder,
    asked_otherwise,
    evaluations_below,
    incomplete,
    results_below,
)
from ktr.tables.published import published
from ktr.tables.runs import find_tables
from ktr.tables.values import Measured

LABELLED = "main"  # the table whose published rows are models that anyone can ask


def measured_of(folder: Path, results: Sequence[Path], labels: Mapping[str, Sequence[Path]]) -> Measured:
    """What the results below the folders ``results``, those below ``folder`` if none is named, say of a table's rows.

    ``labels`` has folders of results by the published row that they are of. A value is the benchmark's official figure.
    Raises ``InputError`` for a label that is no published row, and where two results would fill one cell.
    """
    known = published(LABELLED).rows
    if unknown := [label for label in labels if label not in known]:
        raise InputError(f"--label {unknown[0]}: there is no such row; name one of {', '.join(known)}")
    labelled = {label: _with_a_value(evaluations_below(places)) for label, places in labels.items()}
    taken = {result.path.resolve() for of_label in labelled.values() for result in of_label}
    found = _with_a_value(evaluations_below(results) if results else results_below([folder]))
    found = [result for result in found if result.path.resolve() not in taken]
    runs = [run.path for table in find_tables(folder) for of_row in table.rows.values() for run in of_row]
    of_runs = {run: [result for result in found if _is_of(result, run)] for run in runs}
    cells = {str(run): _cells(str(run), of_run) for run, of_run in of_runs.items() if of_run}
    cells |= {label: _cells(label, of_label) for label, of_label in labelled.items()}
    values = {
        name: {
            metric: (result.summary["official"]["value"], result.summary["n"]) for metric, result in by_metric.items()
        }
        for name, by_metric in cells.items()
    }
    others = [str(result.path) for result in found if not any(_is_of(result, run) for run in runs)]
    notes = [*_notes(cells), *([f"Results of no row: {', '.join(others)}."] if others else [])]
    return Measured(
        {run: values[str(run)] for run in runs if str(run) in values},
        {label: values[label] for label in labelled},
        tuple(notes),
    )


def _with_a_value(results: Sequence[EvaluationFolder]) -> list[EvaluationFolder]:
    return [result for result in results if result.summary["official"]["value"] is not None]


def _is_of(result: EvaluationFolder, run: Path) -> bool:
    return any(Path(place).resolve().is_relative_to(run.resolve()) for place in result.named.values())


def _cells(name: str, results: Sequence[EvaluationFolder]) -> dict[str, EvaluationFolder]:
    cells: dict[str, EvaluationFolder] = {}
    for result in results:
        metric = f"benchmark/{COLUMNS.get(result.benchmark, result.benchmark)}"
        first = cells.setdefault(metric, result)
        if first is not result:
            raise InputError(
                f"{name}: {first.path} and {result.path} are both of {metric.partition('/')[2]}; name the folders "
                "of the results that count with --results"
            )
    return cells


def _notes(cells: Mapping[str, Mapping[str, EvaluationFolder]]) -> list[str]:
    """What forbids a comparison within a column, and what results lack; those of which the same is true together."""
    alike: dict[str, list[str]] = {}
    for metric in dict.fromkeys(metric for by_metric in cells.values() for metric in by_metric):
        of_column = [(Path(name).name, by_metric[metric]) for name, by_metric in cells.items() if metric in by_metric]
        first, reference = of_column[0]
        for name, result in of_column:
            about = f"{result.benchmark} of {name}"
            if told := asked_otherwise(reference, result):
                alike.setdefault(f"asked otherwise than of {first}: {'; '.join(told)}", []).append(about)
            if lacking := incomplete(result):
                alike.setdefault("; ".join(lacking), []).append(about)
    return [f"{', '.join(about)}: {text}." for text, about in alike.items()]
