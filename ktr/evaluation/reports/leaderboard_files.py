"""``python -m ktr.report leaderboard``: a leaderboard as Markdown, LaTeX, figures and a page, and on the console."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ktr.analysis.html import write_page
from ktr.evaluation.reports.folder import EvaluationFolder, evaluations_below
from ktr.evaluation.reports.leaderboard import (
    SUBTASKS,
    BoardRow,
    Leaderboard,
    about_columns,
    leaderboard,
    subtasks,
    value_of,
)
from ktr.evaluation.reports.leaderboard_figures import write_leaderboard_figures
from ktr.record.json_file import write_whole
from ktr.tables.console import grid_console
from ktr.tables.grids import NONE, Grid
from ktr.tables.latex import grid_latex
from ktr.tables.markdown import grid_markdown
from ktr.tables.published import published

TITLE = "Leaderboard"
CELLS = (
    "Accuracy in percent over the items with a reply, with Wilson's 95 % interval; where the benchmark's official "
    "figure is another, that too."
)


def write_leaderboard(folders: Sequence[Path], output: Path) -> tuple[str, Path]:
    """Write the leaderboard of all results below ``folders`` into ``output``; return its text and the page's path.

    Raises ``MissingData`` where there is no result.
    """
    board = leaderboard(evaluations_below(folders))
    output.mkdir(parents=True, exist_ok=True)
    figures = write_leaderboard_figures(output, board)
    grids = {TITLE: board_grid(board)}
    grids |= {
        f"{column}, by subtask": subtask_grid(board, column) for column in board.columns if subtasks(board, column)
    }
    notes, numbered = [CELLS, *about_columns(board)], [f"[{n}] {text}" for n, text in enumerate(board.notes, 1)]
    sections = [f"## {title}\n\n{grid_markdown(grid)}" for title, grid in grids.items()]
    sections[1:1] = ["\n".join(f"- {text}" for text in [*numbered, *notes])]
    images = [f"![{name}]({path.name})" for name, path in figures.items()]
    write_whole(output / "leaderboard.md", "\n\n".join([*sections, *images]) + "\n")
    caption = " ".join([f"{TITLE}.", *numbered, *notes])
    write_whole(output / "leaderboard.tex", grid_latex(grids[TITLE], caption, "leaderboard"))
    page = output / "leaderboard.html"
    write_page(page, "tables.html", title=TITLE, grids=grids, notes=[*numbered, *notes], figures=figures)
    return "\n".join([grid_console(grids[TITLE]), *numbered, *notes]), page


def board_grid(board: Leaderboard) -> Grid:
    """A row a model, a column a benchmark; numbers in brackets are those of notes."""
    rows = [[row.label, *(_cell(board, row, column) for column in board.columns)] for row in board.rows]
    return Grid(["model", *board.columns], rows)


def subtask_grid(board: Leaderboard, column: str) -> Grid:
    """A row a model, a column a subtask of one benchmark; the rows that are published of it last."""
    names = subtasks(board, column)
    rows = [
        [
            f"{row.label} {board.brackets(row, column)}".rstrip(),
            *(_interval(row.results[column].summary["by_subtask"].get(name, {})) or NONE for name in names),
        ]
        for row in board.rows
        if column in row.results
    ]
    paper = published(SUBTASKS.get(column, ""))
    rows += [
        [f"{row}, published", *(_number(values.get(name)) for name in names)] for row, values in paper.rows.items()
    ]
    return Grid(["model", *names], rows)


def _cell(board: Leaderboard, row: BoardRow, column: str) -> str:
    if row.is_published:
        return _number(row.published.get(column))
    result = row.results.get(column)
    if result is None:
        return NONE
    return f"{', '.join(_figures(result)) or NONE} {board.brackets(row, column)}".rstrip()


def _figures(result: EvaluationFolder) -> Iterator[str]:
    summary = result.summary
    if told := _interval(summary):
        yield told
    if summary["accuracy"] is not None and summary.get("mra") is not None:
        yield f"mra {100 * summary['mra']:.1f}"
    official = summary["official"]
    if official["metric"] != "micro" and official["value"] is not None:
        yield f"{official['metric']} {100 * official['value']:.1f}"


def _interval(figures: Any) -> str:
    value = value_of(figures)
    return "" if value is None else f"{value[0]:.1f} ({value[1]:.1f} to {value[2]:.1f})"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
