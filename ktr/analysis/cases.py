"""Case studies: the held-out questions on which two policies differ most, side by side, from their records alone."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import yaml

from ktr.analysis.filmstrip import read_strips
from ktr.analysis.token_page import Case, selection_settings, write_cases
from ktr.errors import MissingData
from ktr.record.json_file import unreadable
from ktr.record.token_records import Record, read_records

RECORDS = "attribution.jsonl"
Key = tuple[str, str]


def write_case_studies(first: Path, second: Path, output: Path, limit: int = 8) -> Path:
    """Write the page of up to ``limit`` questions and the JSON beside it; return the page's path.

    ``first`` and ``second`` are run folders or their attribution.jsonl. A question counts by the difference of its mean
    rewards, whichever policy has the higher. Of each policy the completion is shown whose reward is nearest to its
    mean, and the others are folded away. Raises ``MissingData`` where there is nothing to compare.
    """
    files = [path / RECORDS if path.is_dir() else path for path in (first, second)]
    by_question = [_by_question(file) for file in files]
    common = [key for key in by_question[0] if key in by_question[1]]
    if not common:
        raise MissingData(f"{files[0]} and {files[1]} have no question in common: name two runs on the same data")
    gaps = {key: abs(_reward(by_question[0][key]) - _reward(by_question[1][key])) for key in common}
    chosen = sorted((key for key in common if gaps[key] > 0), key=lambda key: -gaps[key])[:limit]
    if not chosen:
        raise MissingData(
            f"{files[0]} and {files[1]} earn the same on each of their {len(common)} common questions: no case to show"
        )
    titles = _titles(files)
    cases = [_case(dict(zip(titles, (records[key] for records in by_question), strict=True))) for key in chosen]
    settings = [_selection(file.parent) for file in files]
    title = f"{titles[0]} and {titles[1]}: {len(cases)} of {len(common)} questions, those that differ most"
    return write_cases(output, cases, settings[0] if settings[0] == settings[1] else None, title)


def _by_question(file: Path) -> dict[Key, list[Record]]:
    """The records of the last step, by the question's id and text."""
    if not file.is_file():
        raise MissingData(f"{file} does not exist: name a run folder that has {RECORDS}, or such a file")
    try:
        records = list(read_records(file))
        last = max((record["step"] for record in records), default=0)
        questions: dict[Key, list[Record]] = defaultdict(list)
        for record in records:
            if record["step"] == last:
                questions[record["question"], record["problem"]].append(record)
    except (ValueError, KeyError, TypeError) as error:
        raise MissingData(unreadable(file, f"{type(error).__name__}: {error}")) from error
    return questions


def _reward(records: Sequence[Record]) -> float:
    return fmean(record["reward"] for record in records)


def _case(columns: dict[str, list[Record]]) -> Case:
    means = {title: _reward(records) for title, records in columns.items()}
    notes = {title: f"mean reward {means[title]:.2f} over {len(records)}" for title, records in columns.items()}
    typical = tuple(
        min(range(len(records)), key=lambda i, at=means[title], of=records: abs(of[i]["reward"] - at))
        for title, records in columns.items()
    )
    return Case(columns, read_strips(next(iter(columns.values()))[0]), first=typical, notes=notes)


def _selection(run_dir: Path) -> dict | None:
    """How the run selected its tokens, from its config; None where that is not kept or was not by ratio."""
    config = run_dir / "config.yaml"
    if not config.is_file():
        return None
    node = (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("selection")
    return selection_settings(node) if isinstance(node, dict) else None


def _titles(files: Sequence[Path]) -> list[str]:
    names = [file.resolve().parent.name if file.name == RECORDS else file.stem for file in files]
    return names if names[0] != names[1] else [str(file) for file in files]
