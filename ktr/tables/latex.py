"""table.tex: the table of results with booktabs."""

from ktr.tables.grids import MINUS, NONE, Grid, results_grid, results_notes
from ktr.tables.values import Table

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    MINUS: "$-$",
    NONE: "---",
    "“": "``",
    "”": "''",
}


def table_latex(table: Table) -> str:
    """The results. Warnings and notes stand in the caption."""
    caption = [
        table.source.title or table.source.name,
        *(f"Warning: {text}" for text in table.comparison.warnings),
        *results_notes(table),
    ]
    text = " ".join(text if text.endswith(".") else f"{text}." for text in caption)
    return grid_latex(results_grid(table), text, table.source.name)


def grid_latex(grid: Grid, caption: str, name: str) -> str:
    """A ``tabular`` in a ``table`` float; needs ``\\usepackage{booktabs}``."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
        r"\toprule",
        _line(grid.columns),
        r"\midrule",
        *(_line(row) for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """``text`` as LaTeX shows it."""
    return "".join(ESCAPES.get(character, character) for character in text)


def _line(cells: list[str]) -> str:
    return f"{' & '.join(escape(cell) for cell in cells)} \\\\"
