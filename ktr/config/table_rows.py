"""Rows of a table: what the command line of one is, and whether a folder holds it already.

A table is a Hydra sweep over ``table.row`` and ``seed``. The key of a row stands for the overrides that the table's
file lists under it, and a row's run has them on its command line, so that it can be started by itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from ktr.config.resumption import plain, written_config
from ktr.config.run_names import override_key
from ktr.config.settings import differences, settings
from ktr.errors import ConfigError

_ROW = "table.row"
_SHOWN = 3  # differences that a message names


def row_overrides(rows: Mapping[str, Sequence[str]], overrides: Sequence[str]) -> list[str]:
    """The overrides of a row's run: ``overrides``, and those that stand for their ``table.row``.

    Raises ConfigError where there is no such row, and where the command line sets what the row is about.
    """
    given = {override_key(override): override.partition("=")[2] for override in overrides}
    row = _row(rows, given)
    for override in rows[row]:
        if (key := override_key(override)) in given:
            raise ConfigError(f"{key}={given[key]}: the rows of this table differ in {key}; row {row} sets {override}")
    return [*overrides, *rows[row]]


def check_rows(table: DictConfig) -> None:
    """Raise ConfigError where a table has no such baseline, a name that is no folder's, or a row that the command line
    would read as another."""
    name = table.get("name")  # one that has no value is told of with the whole config
    if name is not None and (name in ("", ".", "..") or set(name) & set("/\\")):
        raise ConfigError(f"table.name={name}: it is that of the table's folder; give one word, without /")
    if table.baseline not in table.rows:
        raise ConfigError(f"table.baseline={table.baseline}: no such row; choose from {', '.join(table.rows)}")
    for row in table.rows:
        try:
            read = OverridesParser.create().parse_override(f"{_ROW}={row}").value()
        except HydraException:
            read = None
        if str(read) != row:
            raise ConfigError(
                f"table.rows: a row cannot be called {row}: a command line reads another value there; begin with a "
                "letter, and go on with letters, digits, - and _"
            )


def check_row_is_whole(rows: Mapping[str, Sequence[str]], overrides: Sequence[str]) -> None:
    """Raise ConfigError where the command line of a single run names a row and lacks what the row stands for."""
    row = _row(rows, {override_key(override): override.partition("=")[2] for override in overrides})
    if lacking := [override for override in rows[row] if override not in overrides]:
        raise ConfigError(f"{_ROW}={row} stands for {' '.join(lacking)}: give that too, or leave out hydra.mode=RUN")


def _row(rows: Mapping[str, Sequence[str]], given: Mapping[str, str]) -> str:
    row = given.get(_ROW, "null")
    if row == "null":
        raise ConfigError(f"{_ROW} has no value: run the table as a sweep, or give {_ROW}=… ({', '.join(rows)})")
    if row not in rows:
        raise ConfigError(f"{_ROW}={row}: no such row; choose from {', '.join(rows)}")
    return row


def is_finished(run_dir: Path) -> bool:
    """Whether the run of a folder wrote its summary, which is the last thing that it does but for its report."""
    return (run_dir / "summary.json").exists()


def written_settings(config: Any) -> dict[str, Any]:
    """The settings of a config as config.yaml holds them."""
    return settings(plain(config))


def check_row(config: DictConfig) -> None:
    """Raise ConfigError where the folder of a table's row holds a run, finished or not, that had other settings."""
    written = Path(config.paths.run_dir) / "config.yaml"
    if config.get("table") is None or not written.exists():
        return
    was, now = settings(written_config(written.parent)), written_settings(config)
    if not (changed := differences(was, now)):
        return
    shortest = sorted(changed.items(), key=lambda item: item[0].count("."))  # the rest often only repeats these
    named = [f"{key} was {old}, now {new}" for key, (old, new) in shortest[:_SHOWN]]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    raise ConfigError(
        f"{written.parent} holds this row with other settings ({'; '.join(named)}{more}): "
        "give another folder with paths.runs=…, or remove it"
    )
