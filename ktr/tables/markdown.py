"""table.md: warnings, the table of results, how each row was made, and what the rows cost.

The part above ``MADE`` rests on results alone: a rerun of the same commit writes the same bytes.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path

from ktr.tables.cost import Cost
from ktr.tables.grids import Grid, cost_grid, cost_notes, results_grid, results_notes
from ktr.tables.values import Table

MADE, COST = "## How each row was made", "## Cost"
# Where a run is written says nothing about what it is.
NOT_IN_A_COMMAND = ("paths.", "hydra.run.", "hydra.sweep.")


def table_markdown(table: Table, cost: Cost, figures: Mapping[str, Path]) -> str:
    """All of table.md. ``figures`` are files by name, in a folder beside table.md."""
    name = table.source.name
    parts = [f"# {table.source.title or name}", f"Table `{name}`."]
    parts += ["\n".join(f"> **Warning:** {warning}  " for warning in table.comparison.warnings)]
    parts += [grid_markdown(results_grid(table)), "\n".join(f"- {note}" for note in results_notes(table))]
    parts += [MADE, grid_markdown(made_grid(table))]
    if cost.updates:
        parts += [COST, grid_markdown(cost_grid(table, cost)), "\n".join(f"- {note}" for note in cost_notes(cost))]
    parts += [f"![{figure}]({path.parent.name}/{path.name})" for figure, path in figures.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def made_grid(table: Table) -> Grid:
    """The commit of each row's runs, and the command that repeats the first of them."""
    rows = []
    for row in table.rows:
        if row.runs:
            commits = ", ".join(sorted({run.commit[:7] for run in row.runs}))
            rows.append([row.name, ", ".join(map(str, row.seeds)), commits, f"`{command(row.runs[0].record)}`"])
    return Grid(["row", "seeds", "commit", "command of the first seed"], rows)


def command(record: Mapping) -> str:
    """``python -m ktr.train …`` as a record keeps it, without what only says where to write."""
    argv = [str(argument) for argument in record.get("argv", ())]
    if not argv:
        return "not recorded"
    arguments = [argument for argument in argv[1:] if not argument.lstrip("+~").startswith(NOT_IN_A_COMMAND)]
    return shlex.join(["python", "-m", f"ktr.{Path(argv[0]).stem}", *arguments])


def grid_markdown(grid: Grid) -> str:
    """A Markdown table, numbers to the right."""
    lines = [grid.columns, ["---", *("---:" for _ in grid.columns[1:])], *grid.rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
