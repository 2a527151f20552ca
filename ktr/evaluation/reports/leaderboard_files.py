"""A leaderboard as files: leaderboard.md, .tex and .html, bars.png and radars."""

from collections.abc import Sequence
from pathlib import Path

from ktr.analysis.html import write_page
from ktr.evaluation.reports.folder import evaluations_below
from ktr.evaluation.reports.leaderboard import all_notes, leaderboard, leaderboard_grid
from ktr.evaluation.reports.leaderboard_figures import write_figures
from ktr.record.json_file import write_whole
from ktr.tables.grids import Grid
from ktr.tables.latex import escape
from ktr.tables.markdown import grid_markdown


def write_leaderboard(folders: Sequence[Path], output: Path) -> tuple[str, Path]:
    """Write leaderboard.md, .tex, figures and leaderboard.html into ``output``; the text, and the page's path."""
    board = leaderboard(evaluations_below(folders))
    output.mkdir(parents=True, exist_ok=True)
    grid, notes = leaderboard_grid(board), all_notes(board)
    text = "\n\n".join([grid_markdown(grid), *(["\n".join(f"- {note}" for note in notes)] if notes else [])])
    figures = write_figures(board, output)
    pictures = "\n\n".join(f"![{name}]({path.name})" for name, path in figures.items())
    write_whole(output / "leaderboard.md", f"{text}\n\n{pictures}\n")
    write_whole(output / "leaderboard.tex", latex(grid, notes))
    return text, write_page(output / "leaderboard.html", "leaderboard.html", grid=grid, notes=notes, figures=figures)


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
