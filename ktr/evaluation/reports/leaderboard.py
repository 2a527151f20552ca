"""Results side by side: a row a model, a column a benchmark, published rows below; as text, LaTeX, figures, one page.

Two results of one column that were asked otherwise (frames, pixels, prompt, rule, decoding, items, versions) bear a
mark, and what differs is said below the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ktr.evaluation.asking.identity import differences
from ktr.evaluation.asking.results import published_of
from ktr.evaluation.reports.folder import EvaluationFolder, evaluations_below
from ktr.record.json_file import write_whole
from ktr.tables.grids import Grid
from ktr.tables.latex import escape
from ktr.tables.markdown import grid_markdown

OF_THE_MODEL = ("model", "endpoint", "engine")  # what rows are about
NOTHING = "–"


@dataclass(frozen=True)
class Leaderboard:
    """``cells`` are results by model and benchmark; ``notes`` says what differs within a column."""

    benchmarks: list[str]
    cells: dict[str, dict[str, EvaluationFolder]]
    marks: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_leaderboard(folders: Sequence[Path], output: Path) -> tuple[str, Path]:
    """Write leaderboard.md, .tex, figures and leaderboard.html into ``output``; the text, and the page's path."""
    from ktr.evaluation.reports.leaderboard_figures import write_figures  # not above: it draws

    board = leaderboard(evaluations_below(folders))
    output.mkdir(parents=True, exist_ok=True)
    grid, notes = leaderboard_grid(board), all_notes(board)
    text = "\n\n".join([grid_markdown(grid), *(["\n".join(f"- {note}" for note in notes)] if notes else [])])
    figures = write_figures(board, output)
    pictures = "\n\n".join(f"![{name}]({path.name})" for name, path in figures.items())
    write_whole(output / "leaderboard.md", f"{text}\n\n{pictures}\n")
    write_whole(output / "leaderboard.tex", latex(grid, notes))
    from ktr.analysis.html import write_page

    return text, write_page(output / "leaderboard.html", "leaderboard.html", grid=grid, notes=notes, figures=figures)


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


def latex(grid: Grid, notes: Sequence[str]) -> str:
    """A ``tabular`` in a ``table`` float; needs booktabs."""

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(map(escape, cells))} \\\\"

    caption = escape(" ".join(note if note.endswith(".") else f"{note}." for note in notes))
    body = [line(grid.columns), r"\midrule", *map(line, grid.rows)]
    columns = f"l{'r' * (len(grid.columns) - 1)}"
    return "\n".join(
        [
            *(r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{columns}}}"),
            *(r"\toprule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""),
        ]
    )


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
