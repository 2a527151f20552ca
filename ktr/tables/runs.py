"""The runs below a folder, sorted into tables: which run is which row and seed, and what each one measured."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ktr.config.settings import differences, settings
from ktr.errors import MissingData
from ktr.record.json_file import read_object, unreadable
from ktr.record.step_table import read_columns


@dataclass(frozen=True)
class TableRun:
    """One run: a row of a table at one seed. ``summary`` is None as long as the run has not finished.

    ``measured`` are accuracies of its policy that were measured after the run, as ``accuracies`` has them.
    """

    path: Path
    row: str
    seed: int
    config: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    record: Mapping[str, Any]
    measured: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What can matter to the result: dotted key → value."""
        return settings(self.config)

    @property
    def commit(self) -> str:
        return self.record.get("git", {}).get("commit") or "unknown"

    def accuracies(self) -> dict[str, tuple[float, int]]:
        """(accuracy, questions) by metric: ``after/greedy``, ``before/sampled``, ``benchmark/mmvu``, …"""
        summary, found = self.summary or {}, {}
        for when in ("after", "before"):
            for way, entry in summary.get(f"accuracy_{when}", {}).items():
                found[f"{when}/{way}"] = entry
        for name, entry in summary.get("benchmarks", {}).items():
            found[f"benchmark/{name}"] = entry
        own = {metric: (float(entry["accuracy"]), int(entry.get("n", 0))) for metric, entry in found.items()}
        return {**own, **self.measured}

    def steps(self, file: str, column: str) -> dict[int, float]:
        """A column of metrics.csv or timings.csv by step; of a step that stands there twice the last value."""
        try:
            steps, values = read_columns(self.path / file).get(column, ([], []))
        except (ValueError, KeyError, TypeError) as error:
            raise MissingData(unreadable(self.path / file, f"no table of numbers by step: {error}")) from error
        return {step: value for step, value in zip(steps, values, strict=True) if step > 0}


@dataclass(frozen=True)
class TableRuns:
    """The runs of one table. ``rows`` has every row that is planned, in order, those without any run too.

    Of successive halving a rung is a table, and has the rows that reached it.
    """

    name: str
    title: str
    baseline: str
    seeds: tuple[int, ...]
    rows: Mapping[str, tuple[TableRun, ...]]
    overrides: Mapping[str, tuple[str, ...]]
    repeated: tuple[TableRun, ...]  # runs of a row and seed that another run stands for

    def finished(self, row: str) -> list[TableRun]:
        """The finished runs of a row, by seed."""
        return [run for run in self.rows[row] if run.summary is not None]


def find_tables(folder: Path) -> list[TableRuns]:
    """The tables whose runs are below ``folder``, in order of their names.

    Runs of one ``table.name`` are one table, and runs without a table are one, named after the folder. Where a row and
    seed was run in several folders of tables, each of these is a table of its own. Raises ``MissingData`` where there
    is no run, or a run's file cannot be read.
    """
    found = [(path, read_config(path / "config.yaml")) for path in sorted(run_folders(folder))]
    found = [(path, config) for path, config in found if "trainer" in config]  # an evaluation is no row
    if not found:
        raise MissingData(f"{folder}: no run below it (a folder with config.yaml); name a folder such as runs/table/…")
    by_name: dict[str, list[tuple[Path, Mapping[str, Any]]]] = {}
    for path, config in found:
        by_name.setdefault(str((config.get("table") or {}).get("name", "")), []).append((path, config))
    tables = []
    for name, members in sorted(by_name.items()):
        rows = [str(config["table"]["row"]) for _, config in members] if name else labels(members)
        runs = [_run(path, row, config) for (path, config), row in zip(members, rows, strict=True)]
        tables += [_table(name or folder.resolve().name, group) for group in _apart(runs)]
    return tables


def run_folders(folder: Path) -> Iterator[Path]:
    """Folders below ``folder``, itself included, that hold config.yaml; what is inside a run is not searched."""
    if not folder.is_dir():
        raise MissingData(f"{folder}: no such folder; name a folder with runs, such as runs/table/signals")
    for parent, folders, names in os.walk(folder):
        if "config.yaml" in names:
            folders.clear()
            yield Path(parent)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def labels(members: Sequence[tuple[Path, Mapping[str, Any]]]) -> list[str]:
    """A name for each run without a table: algorithm, signals, and what else tells it from runs of the same name."""
    flats = [settings(config) for _, config in members]
    seedless = [{key: value for key, value in flat.items() if _leaf(key) != "seed"} for flat in flats]
    bases = []
    for path, config in members:
        parts = [str((config.get("labels") or {}).get(part) or "") for part in ("algorithm", "attribution")]
        bases.append("-".join(filter(None, parts)) or path.name)
    names = []
    for base, flat in zip(bases, seedless, strict=True):
        others = [other for name, other in zip(bases, seedless, strict=True) if name == base]
        differing = sorted({key for other in others for key in differences(flat, other)})
        told = [f"{_leaf(key)} {flat[key]}" for key in differing if flat.get(key) is not None]
        names.append(" ".join([base, *dict.fromkeys(told)]))  # a copy of a setting says the same
    return names


def read_config(path: Path) -> Mapping[str, Any]:
    """A run's config.yaml. Raises ``MissingData`` where it is no mapping."""
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MissingData(unreadable(path, " ".join(str(error).split()))) from error
    if not isinstance(config, Mapping):
        raise MissingData(unreadable(path, "no mapping of settings"))
    return config


def _run(path: Path, row: str, config: Mapping[str, Any]) -> TableRun:
    summary, record = read_object(path / "summary.json"), read_object(path / "record.json") or {}
    run = TableRun(path, row, int(config.get("seed", 0)), config, summary, record)
    try:
        run.accuracies()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MissingData(unreadable(path / "summary.json", f"accuracies without a number ({error!r})")) from error
    return run


def _apart(runs: Sequence[TableRun]) -> list[list[TableRun]]:
    """The runs by the folder they stand in, if the same row and seed stands in several; else all together."""
    by_parent: dict[Path, list[TableRun]] = {}
    for run in runs:
        by_parent.setdefault(run.path.parent, []).append(run)
    keys = [{(run.row, run.seed) for run in group} for group in by_parent.values()]
    return [list(runs)] if sum(map(len, keys)) == len(set().union(*keys)) else list(by_parent.values())


def _table(name: str, runs: Sequence[TableRun]) -> TableRuns:
    nodes = [run.config.get("table") or {} for run in runs]
    planned: dict[str, Any] = {}
    for node in nodes:
        planned |= {str(row): overrides for row, overrides in (node.get("rows") or {}).items()}
    if any(node.get("rungs") for node in nodes):  # of rows that were left behind there is nothing to say
        planned = {row: planned[row] for row in planned if any(run.row == row for run in runs)}
    seeds = sorted({int(seed) for node in nodes for seed in node.get("seeds") or ()} | {run.seed for run in runs})
    kept: dict[tuple[str, int], TableRun] = {}
    for run in sorted(runs, key=lambda run: run.summary is None):  # a finished run stands before one that was cut off
        kept.setdefault((run.row, run.seed), run)
    order = [*planned, *(run.row for run in runs)]
    rows = {row: tuple(kept[row, seed] for seed in seeds if (row, seed) in kept) for row in dict.fromkeys(order)}
    return TableRuns(
        name=name,
        title=next((str(node["title"]) for node in nodes if node.get("title")), ""),
        baseline=next((str(node["baseline"]) for node in nodes if node.get("baseline")), next(iter(rows))),
        seeds=tuple(seeds),
        rows=rows,
        overrides={row: tuple(map(str, overrides or ())) for row, overrides in planned.items()},
        repeated=tuple(run for run in runs if kept[run.row, run.seed] is not run),
    )


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]
