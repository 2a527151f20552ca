"""Whether the rows of a table may be compared: the same but for what each row is about.

The rule. A setting may differ between rows, if it is the same at all seeds of each row and

1. lies under one of ``METHOD`` and not under one of ``SHARED``, or
2. a row's overrides name it, or a group above it (``video.num_frames=16``; ``optimizer=paper``), or
3. it has in every row the value of a setting that is named so: what interpolates it.

Any other setting that differs (data, budget, model, evaluation, optimizer, …), or the commit of the code at the same
seed, makes the rows that have not the baseline's value not comparable with it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ktr.tables.runs import TableRun, TableRuns

METHOD = (
    "algorithm", "attribution", "weighting", "selection", "loss", "reward", "advantage", "rollout", "data.transform",
    "dynamic_sampling",
)  # fmt: skip
# Parts of the module that are copies of shared groups: what a row is about is not there.
SHARED = ("algorithm.optimizer", "algorithm.sampling", "algorithm.validation_sampling")
COMMIT = "code commit"
# The group that a difference is reported by, where several keys differ alike: the cause before its copies.
FIRST = ("trainer", "data", "video", "model", "sampling", "answers", "optimizer")
MISSING = "not set"


@dataclass(frozen=True)
class Comparison:
    """``warnings``: differences that forbid a comparison. ``notes``: what a reader should know besides.

    ``apart``: rows without a difference from the baseline, because they are not comparable with it.
    """

    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    apart: set[str] = field(default_factory=set)


def compare(table: TableRuns) -> Comparison:
    """Check all rows of a table that have runs, finished or not."""
    rows = {row: runs for row, runs in table.rows.items() if runs}
    result = Comparison()
    with_seed = _seed_keys([run for runs in rows.values() for run in runs])
    values: dict[str, dict[str, Any]] = {}  # key → row → value
    for row, runs in rows.items():
        for key in sorted({key for run in runs for key in run.settings} - with_seed):
            of_seeds = {run.seed: run.settings.get(key, MISSING) for run in runs}
            if len({_text(value) for value in of_seeds.values()}) > 1:
                told = " and ".join(f"{_text(value)} at seed {seed}" for seed, value in of_seeds.items())
                result.warnings.append(f"not comparable: within row {row}, {key} is {told}")
                result.apart.add(row)
            values.setdefault(key, {})[row] = next(iter(of_seeds.values()))
    differing = {}
    for key, by_row in values.items():
        texts = {row: _text(by_row.get(row, MISSING)) for row in rows}
        if len(set(texts.values())) > 1:
            differing[key] = texts
    own = _own(differing, table)
    for keys, texts in _alike({key: texts for key, texts in differing.items() if key not in own}):
        also = f" (and {', '.join(keys[1:])})" if keys[1:] else ""
        result.warnings.append(f"not comparable: {keys[0]}{also} is {_told(texts)}")
        _set_apart(result, table.baseline, {row: {0: text} for row, text in texts.items()})
    _compare_commits(rows, table.baseline, result)
    if table.baseline in result.apart:
        result.apart.update(rows)
    return result


def _own(differing: Mapping[str, Mapping[str, str]], table: TableRuns) -> set[str]:
    names = {_name(override) for overrides in table.overrides.values() for override in overrides}
    named = {key for key in differing if _under(key, names)}
    of_method = {key for key in differing if _under(key, METHOD) and not _under(key, SHARED)}
    # A group that an override chooses sets far more than it is named for; only single settings are interpolated.
    sources = [differing[key] for key in named if key in names]
    return of_method | named | {key for key, texts in differing.items() if texts in sources}


def _compare_commits(rows: Mapping[str, Sequence[TableRun]], baseline: str, result: Comparison) -> None:
    commits = {row: {run.seed: run.commit for run in runs} for row, runs in rows.items()}
    if len({commit for by_seed in commits.values() for commit in by_seed.values()}) > 1:
        short = {row: sorted({commit[:7] for commit in by_seed.values()}) for row, by_seed in commits.items()}
        texts = {row: " and ".join(found) for row, found in short.items()}
        before = len(result.apart)
        _set_apart(result, baseline, commits)
        if len(set(texts.values())) > 1 or len(result.apart) > before:
            result.warnings.append(f"not comparable: {COMMIT} is {_told(texts)}")
        else:
            told = next(iter(texts.values()))
            result.notes.append(f"The seeds ran at several commits, each seed at the same in all rows: {told}.")
    dirty = [row for row, runs in rows.items() if any(run.record.get("git", {}).get("dirty") for run in runs)]
    if dirty:
        which = "all rows" if len(dirty) == len(rows) else ", ".join(dirty)
        result.notes.append(f"Run with uncommitted changes in the working tree: {which}.")


def _set_apart(result: Comparison, baseline: str, by_row: Mapping[str, Mapping[int, str]]) -> None:
    """Rows that have another value than the baseline at a seed in common."""
    expected = by_row.get(baseline, {})
    for row, by_seed in by_row.items():
        if any(by_seed[seed] != expected[seed] for seed in by_seed.keys() & expected.keys()):
            result.apart.add(row)


def _alike(differing: Mapping[str, Mapping[str, str]]) -> list[tuple[list[str], Mapping[str, str]]]:
    """Keys that have the same values in all rows, together: one cause, told once."""
    groups: list[tuple[list[str], Mapping[str, str]]] = []
    for key in sorted(differing, key=_rank):
        for keys, texts in groups:
            if texts == differing[key]:
                keys.append(key)
                break
        else:
            groups.append(([key], differing[key]))
    return groups


def _rank(key: str) -> tuple[int, int, str]:
    group = key.partition(".")[0]
    return (FIRST.index(group) if group in FIRST else len(FIRST), key.count("."), key)


def _told(texts: Mapping[str, str]) -> str:
    """``120 in grpo, e and 60 in vet``: the value of most rows first."""
    by_text: dict[str, list[str]] = {}
    for row, text in texts.items():
        by_text.setdefault(text, []).append(row)
    parts = sorted(by_text.items(), key=lambda item: -len(item[1]))
    return " and ".join(f"{text} in {', '.join(rows)}" for text, rows in parts)


def _seed_keys(runs: Sequence[TableRun]) -> set[str]:
    """Settings that are the run's seed in every run."""
    keys = {key for run in runs for key in run.settings if key.rpartition(".")[2] == "seed"}
    return {key for key in keys if all(run.settings.get(key, run.seed) == run.seed for run in runs)}


def _under(key: str, groups: Iterable[str]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _name(override: str) -> str:
    """``+video.num_frames=16`` → ``video.num_frames``; ``reward/part/x@reward.rewards.x=…`` → ``reward.rewards.x``."""
    name = override.lstrip("+~").partition("=")[0]
    package = name.rpartition("@")[2]
    return package.removeprefix("_global_.").replace("/", ".")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
