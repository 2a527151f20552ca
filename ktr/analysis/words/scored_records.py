"""The records of a run whose tokens were scored, one after another, from a file that may be damaged or growing."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktr.console.progress_line import track
from ktr.errors import ConfigError, MissingData

log = logging.getLogger(__name__)

Record = dict[str, Any]
SOURCES = ("rollouts", "attribution")  # of two, the first that has scored tokens is read


@dataclass
class Counts:
    """Completions that were read, ``scored`` or not (a step needn't score each), and why lines were left out."""

    scored: int = 0
    unscored: int = 0
    reasons: list[str] = field(default_factory=list)


def source_of(run_dir: Path, wanted: str = "") -> Path:
    """The file of a run folder to read: ``wanted`` (rollouts, attribution), or the first with scored tokens.

    Raises ``ConfigError`` for another name, and ``MissingData`` where nothing is scored.
    """
    if wanted and wanted not in SOURCES:
        raise ConfigError(f"records={wanted}: take {' or '.join(SOURCES)}")
    if not run_dir.is_dir():
        raise MissingData(f"{run_dir}: no such folder; name a run folder, such as runs/<name>")
    paths = [run_dir / f"{name}.jsonl" for name in ([wanted] if wanted else SOURCES)]
    for path in paths:
        if path.exists() and any(True for _ in scored_records(path, Counts())):
            return path
    names = " or ".join(path.name for path in paths)
    raise MissingData(f"{run_dir}: no scored tokens in {names}; name a run that selects tokens (attribution=vet)")


def scored_records(path: Path, counts: Counts, label: str = "") -> Iterator[Record]:
    """The records with scores or selections, oldest first; ``counts`` is kept up to date.

    A line that is cut off, as the last one of a run that still writes, or that is no record, is left out, counted with
    its reason, and told at the end. With a ``label`` a progress line counts the lines.
    """
    left_out_before = len(counts.reasons)
    number = 0
    with path.open("rb") as file:
        lines = track(file, label, _num_lines(path)) if label else file
        for number, line in enumerate(lines, 1):
            record, flaw = _record_of(line)
            if flaw:
                counts.reasons.append(f"{path}, line {number}: {flaw} ({len(line):,} bytes)")
            elif record["scores"] or record["selected"]:
                counts.scored += 1
                yield record
            else:
                counts.unscored += 1
    if left_out := counts.reasons[left_out_before:]:
        shown = "; ".join(left_out[:3]) + ("; …" if len(left_out) > 3 else "")
        log.warning("%d of %d lines are left out: %s", len(left_out), number, shown)


def _num_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _record_of(line: bytes) -> tuple[Record, str]:
    """The record, and what keeps the line from being one: nothing if it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}, "no JSON" if line.endswith(b"\n") else "cut off"
    flaw = _flaw(record)
    return ({}, flaw) if flaw else (record, "")


def _flaw(record: Any) -> str:
    """What keeps a line from being a record; nothing if it is one."""
    if not isinstance(record, dict):
        return "no object"
    lacking = [name for name in ("question", "tokens", "scores", "selected") if name not in record]
    if lacking:
        return f"no {lacking[0]}"
    tokens = record["tokens"]
    if not isinstance(tokens, list) or not {*map(type, tokens)} <= {str}:
        return "tokens that are no strings"
    if not isinstance(record.get("text", ""), str):
        return "a text that is no string"
    for name in ("scores", "selected"):
        if not isinstance(record[name], dict) or not all(isinstance(part, list) for part in record[name].values()):
            return f"{name} that are not lists by signal"
    parts = {f"scores of {name}": part for name, part in record["scores"].items()}
    parts |= {name: record[name] for name in ("weights", "roles") if name in record}
    for name, part in parts.items():
        if not isinstance(part, list) or len(part) != len(tokens):
            return f"{name}: not one for each of {len(tokens)} tokens"
        if name != "roles" and not {*map(type, part)} <= {int, float}:
            return f"{name} that are no numbers"
    for name, part in record["selected"].items():
        if not {*map(type, part)} <= {int} or (part and not 0 <= min(part) <= max(part) < len(tokens)):
            return f"positions selected by {name} that are none of the completion"
    return ""
