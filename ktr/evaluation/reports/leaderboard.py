"""Results side by side: a row a model, a column a benchmark, published rows below.

Two results of one column that were asked otherwise (frames, pixels, prompt, rule, decoding, items, versions) bear a
mark, and what differs is said below the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ktr.evaluation.asking.identity import differences
from ktr.evaluation.asking.results import published_of
from ktr.evaluation.reports.folder import EvaluationFolder
from ktr.tables.grids import Grid

OF_THE_MODEL = ("model", "endpoint", "engine")  # what rows are about
NOTHING = "–"


@dataclass(frozen=True)
class Leaderboard:
    """``cells`` are results by model and benchmark; ``notes`` says what differs within a column."""

    benchmarks: list[str]
    cells: dict[str, dict[str, EvaluationFolder]]
    marks: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def leaderboard(results: Sequence[EvaluationFolder]) -> Leaderboard:
    """A row for each model, or for each of its results of one benchmark; columns in the order of their first result."""
    board = Leaderboard([*dict.fromkeys(result.benchmark for result in results)], {})
    for result in results:
        name = shown_name(result)
        if result.benchmark in board.cells.get(name, {}):
            name = f"{name} ({result.result['name']})"
        board.cells.setdefault(name, {})[result.benchmark] = result
    letters: dict[str, str] = {}
    for benchmark in board.benchmarks:
        column = [(name, row[benchmark]) for name, row in board.cells.items() if benchmark in row]
        for name, result in column[1:]:
            if told := _differing(column[0][1], result):
                note = f"{benchmark}, not asked as {column[0][0]} was: {told}"
                mark = letters.setdefault(note, chr(ord("a") + len(letters) % 26))
                board.marks[name, benchmark] = mark
    board.notes.extend(f"[{mark}] {note}" for note, mark in letters.items())
    return board


def shown_name(result: EvaluationFolder) -> str:
    """A model by the last parts of its path, and how many frames it was shown at most."""
    parts = [part for part in Path(result.result["model"]).parts if part not in ("/", "policy", "export")]
    frames = result.identity["video"]["num_frames"]
    return f"{parts[-1] if parts else result.result['model']}, {frames} frames"


def leaderboard_grid(board: Leaderboard) -> Grid:
    """Accuracies in percent with half of their interval's width; published ones without."""
    rows = [
        [name, *(_cell(row.get(benchmark), board.marks.get((name, benchmark), "")) for benchmark in board.benchmarks)]
        for name, row in board.cells.items()
    ]
    published = {benchmark: published_of(benchmark) for benchmark in board.benchmarks}
    for model in dict.fromkeys(model for column in published.values() for model in column):
        values = [published[benchmark].get(model) for benchmark in board.benchmarks]
        rows.append([f"{model}, published", *(NOTHING if value is None else f"{value:.1f}" for value in values)])
    return Grid(["model", *board.benchmarks], rows)


def all_notes(board: Leaderboard) -> list[str]:
    """What the table's numbers rest on."""
    notes = ["Accuracy in percent ± half of the 95 % Wilson interval; in brackets the benchmark's own figure."]
    for name, row in board.cells.items():
        for benchmark, result in row.items():
            summary = result.summary
            if summary["left_out"]:
                notes.append(
                    f"{name}, {benchmark}: {summary['left_out']} of {summary['n'] + summary['left_out']} items have no "
                    f"reply; with them as wrong it is {100 * summary['accuracy_of_all']:.1f}"
                )
            if result.result.get("media_missing"):
                notes.append(f"{name}, {benchmark}: media of {result.result['media_missing']} items are missing")
    return [*notes, *board.notes]


def _differing(first: EvaluationFolder, second: EvaluationFolder) -> str:
    """How two results were asked otherwise, as far as both say it: but for the model, and for what its name tells."""
    common = {*first.identity} & {*second.identity} - {*OF_THE_MODEL}
    asked = [{key: value for key, value in result.identity.items() if key in common} for result in (first, second)]
    one, other = ({**each, "video": {**each["video"], "num_frames": None}} for each in asked)
    return "; ".join(differences(one, other))


def _cell(result: EvaluationFolder | None, mark: str) -> str:
    if result is None or result.summary["accuracy"] is None:
        return NOTHING
    summary = result.summary
    half = 50 * (summary["accuracy_high"] - summary["accuracy_low"])
    official = summary["official"]
    own = f" ({100 * official['value']:.1f})" if official["metric"] != "micro" and official["value"] is not None else ""
    return f"{100 * summary['accuracy']:.1f} ± {half:.1f}{own}{f' [{mark}]' if mark else ''}"
