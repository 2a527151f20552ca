"""A table on the console: as many grids of at most 100 columns as it takes, each beginning with the rows' names."""

import io

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from ktr.tables.cost import Cost
from ktr.tables.grids import Grid, cost_grid, cost_notes, results_grid, results_notes
from ktr.tables.values import Table

WIDTH = 100
GAP = 2  # between two columns


def table_console(table: Table, cost: Cost) -> str:
    """Warnings, results and cost with their notes, as plain text."""
    console, file = _console()
    console.print(table.source.title or table.source.name, style="bold")
    for warning in table.comparison.warnings:
        console.print(f"WARNING: {warning}")
    _print(console, results_grid(table))
    for note in results_notes(table):
        console.print(f"- {note}")
    if cost.updates:
        console.print("\nCost", style="bold")
        _print(console, cost_grid(table, cost))
        for note in cost_notes(cost):
            console.print(f"- {note}")
    return _text(file)


def grid_console(grid: Grid) -> str:
    """One grid as plain text."""
    console, file = _console()
    _print(console, grid)
    return _text(file)


def narrow(grid: Grid) -> list[Grid]:
    """The grid cut between columns so that each part fits the console; a title may wrap, a cell may not."""
    widths = [width + GAP for width in _widths(grid)]
    parts: list[list[int]] = [[]]
    for at in range(1, len(widths)):
        if parts[-1] and widths[0] + sum(widths[column] for column in parts[-1]) + widths[at] > WIDTH:
            parts.append([])
        parts[-1].append(at)
    return [
        Grid([grid.columns[at] for at in (0, *part)], [[row[at] for at in (0, *part)] for row in grid.rows])
        for part in parts
    ]


def _console() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=WIDTH, highlight=False, markup=False, color_system=None), file


def _text(file: io.StringIO) -> str:
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _widths(grid: Grid) -> list[int]:
    """Of each column the longest word of the title, or the longest cell."""
    cells = zip(*grid.rows, strict=True)
    return [max(map(len, [*title.split(), *column])) for title, column in zip(grid.columns, cells, strict=True)]


def _print(console: Console, grid: Grid) -> None:
    for part in narrow(grid):
        shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        for at, (title, width) in enumerate(zip(part.columns, _widths(part), strict=True)):
            shown.add_column(title, justify="right" if at else "left", width=width)
        for row in part.rows:
            shown.add_row(*row)
        console.print(shown, "")
