"""``python -m ktr.sweep.halving +experiment=table/regime``: the best settings of each method, by successive halving.

A table's ``rungs`` say how long its rows run, with which seeds, and how many of each method go on to the next rung
(successive halving, arXiv 1502.07943). Rows are named ``<method>_<setting>``; each is judged by its training accuracy
over all updates of the rung. Every rung is a table of its own, run anew with other seeds, so that the last compares
each method at its best settings on runs that had no say in what is best. Killed and started again it goes on.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from ktr.config.command_line import check_command_line, given
from ktr.config.composing import compose
from ktr.config.endings import write_lines
from ktr.config.run_names import override_key
from ktr.config.schemas import Rung
from ktr.errors import ConfigError
from ktr.sweep.cost import HELP, cost_lines, planned_rows
from ktr.sweep.fresh_process import JobFailed
from ktr.tables.runs import find_tables

_OF_A_RUNG = ("table.row", "seed", "trainer.max_steps", "table.baseline", "table.seeds")


def halve(overrides: Sequence[str]) -> Iterator[str]:
    """Run all rungs of a table; say which rows go on, and last where the table of the last rung is.

    Raises ``ConfigError`` where the table has no rungs.
    """
    overrides = _whole(overrides)
    table = _table(overrides)
    rungs: list[Rung] = list(table.rungs)
    rows, folder = list(table.rows), Path()
    for number, rung in enumerate(rungs):
        arguments = [*overrides, *_of_rung(table, number, rows)]
        folder = Path(compose("train", [*overrides, f"table.name={_name(table, number)}"]).paths.run_dir).parent
        if subprocess.run([sys.executable, "-m", "ktr.train", *arguments]).returncode:
            raise JobFailed(f"rung {number + 1} of {table.name} did not end well: see above; started again it goes on")
        if number + 1 < len(rungs):
            rows = best_of_each(whole_run_accuracies(folder), rung.keep)
            yield f"rung {number + 1} of {len(rungs)}: {len(rows)} rows go on: {', '.join(rows)}"
    yield str(folder / "table.md")


def best_of_each(accuracies: Mapping[str, float], keep: int) -> list[str]:
    """The ``keep`` best rows of each method, methods in the order of the rows; of equal ones the earlier."""
    methods: dict[str, list[str]] = {}
    for row in accuracies:
        methods.setdefault(method_of(row), []).append(row)
    return [row for rows in methods.values() for row in sorted(rows, key=lambda row: -accuracies[row])[:keep]]


def method_of(row: str) -> str:
    """What a row is named after, before its settings."""
    return row.rpartition("_")[0] or row


def whole_run_accuracies(folder: Path) -> dict[str, float]:
    """The training accuracy of each row over all updates and seeds of the runs below a folder."""
    (table,) = find_tables(folder)
    found = {}
    for row in table.rows:
        curves = [list(run.steps("metrics.csv", "reward/accuracy").values()) for run in table.finished(row)]
        if values := [value for curve in curves for value in curve]:
            found[row] = sum(values) / len(values)
    return found


def planned(overrides: Sequence[str]) -> Iterator[str]:
    """What the rungs would cost, before it is known which rows go on."""
    overrides = _whole(overrides)
    table = _table(overrides)
    rows, hours = list(table.rows), 0.0
    for number, rung in enumerate(table.rungs):
        jobs = check_command_line("train", [*overrides, *_of_rung(table, number, rows)])
        of_rung = planned_rows(jobs)
        yield f"rung {number + 1}: {rung.updates} updates, seeds {list(rung.seeds)}"
        yield from cost_lines(of_rung)
        hours += sum(row.num_runs * row.core_minutes for row in of_rung) / 60
        rows = best_of_each(dict.fromkeys(rows, 0.0), rung.keep)
    yield f"all rungs: {hours:.1f} core-hours"


def _whole(arguments: Sequence[str]) -> list[str]:
    """The overrides of a command line, folders of one's own (``--config-dir``) among them."""
    return given("train", arguments)[1].overrides


def _table(overrides: Sequence[str]) -> DictConfig:
    if taken := [override for override in overrides if override_key(override) in _OF_A_RUNG]:
        raise ConfigError(f"{taken[0]}: the rungs of the table say that; set table.rungs, or run ktr.train by itself")
    table = compose("train", overrides).get("table")
    if table is None or not table.rungs:
        raise ConfigError(
            "there are no rungs to climb: give a table with table.rungs, such as +experiment=table/regime"
        )
    return table


def _of_rung(table: DictConfig, number: int, rows: Sequence[str]) -> list[str]:
    rung = table.rungs[number]
    baseline = next(row for row in rows if method_of(row) == method_of(table.baseline))
    seeds = ",".join(map(str, rung.seeds))
    return [
        f"table.row={','.join(rows)}", f"seed={seeds}", f"table.seeds=[{seeds}]", f"table.baseline={baseline}",
        f"trainer.max_steps={rung.updates}", f"table.name={_name(table, number)}",
    ]  # fmt: skip


def _name(table: DictConfig, number: int) -> str:
    return f"{table.name}_{number + 1}"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if HELP.intersection(arguments):
        return write_lines(lambda: [__doc__])
    if "--cost" in arguments:
        arguments.remove("--cost")
        return write_lines(lambda: planned(arguments))
    return write_lines(lambda: halve(arguments))


if __name__ == "__main__":
    sys.exit(main())
