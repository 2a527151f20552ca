"""``report_tables(folder)``: every table of the runs below a folder, as text, numbers and figures."""

from collections.abc import Sequence
from pathlib import Path

from ktr.record.json_file import write_whole
from ktr.tables.console import table_console
from ktr.tables.cost import Cost, read_cost
from ktr.tables.csv_text import cost_csv, rows_csv, table_csv
from ktr.tables.figures import write_table_figures
from ktr.tables.latex import table_latex
from ktr.tables.markdown import table_markdown
from ktr.tables.runs import TableRuns, find_tables
from ktr.tables.values import NOTHING, Measured, Table, read_table


def report_tables(folder: Path, measured: Measured = NOTHING) -> tuple[str, list[Path]]:
    """Write the tables of the runs below ``folder``; return what the console shows of them, and the files, table.md
    last of each table.

    ``measured`` are further accuracies of the rows. A single table is written into ``folder``; of several each into the
    folder that holds its runs. Raises ``MissingData`` where there is no run, or a run's file cannot be read.
    """
    sources = find_tables(folder)
    texts, written = [], []
    for source in sources:
        table = read_table(source, measured)
        cost = read_cost(table)
        texts.append(table_console(table, cost))
        written += _write(folder if len(sources) == 1 else _place(source, sources), table, cost)
    return "\n".join(texts), written


def _write(folder: Path, table: Table, cost: Cost) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    figures = write_table_figures(folder / "figures", table, cost)
    texts = {
        "table.csv": table_csv(table),
        "rows.csv": rows_csv(table),
        "cost.csv": cost_csv(cost),
        "table.tex": table_latex(table),
        "table.md": table_markdown(table, cost, figures),
    }
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [*figures.values(), *(folder / name for name in texts)]


def _place(source: TableRuns, sources: Sequence[TableRuns]) -> Path:
    """The folder of a table's runs, or one of the table's name in it, where it holds the runs of other tables too."""
    home = _home(source)
    return home if sum(_home(other) == home for other in sources) == 1 else home / source.name


def _home(source: TableRuns) -> Path:
    return next(run.path for runs in source.rows.values() for run in runs).parent
