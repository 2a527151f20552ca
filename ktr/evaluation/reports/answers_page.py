"""wrong.html: the items that a run did not get right, with their frames, from its folder alone."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from ktr.analysis.filmstrip import filmstrip, read_strips
from ktr.analysis.html import webp_uri, write_page
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.reports.folder import EvaluationFolder
from ktr.evaluation.rules.outcome import Outcome

PAGE, SHOWN, QUALITY = "wrong.html", 60, 70


def write_answers_page(path: Path, limit: int = SHOWN) -> Path:
    """Write the page of up to ``limit`` items into the folder of an evaluation; return its path.

    They are taken in turn of each subtask and outcome. Raises ``MissingData`` where the folder holds no result.
    """
    folder = EvaluationFolder.read(path)
    lines = folder.lines()
    chosen = some_wrong(lines, limit)
    return write_page(
        path / PAGE,
        "answers.html",
        title=f"{folder.result['name']}: {folder.benchmark}",
        rule=folder.identity["rule"],
        counts=_counts(lines),
        num_wrong=sum(line["outcome"] != Outcome.RIGHT for line in lines),
        cases=[case_of(line) for line in chosen],
        subtasks=sorted({line["subtask"] for line in chosen}),
        outcomes=[outcome.value for outcome in Outcome if any(line["outcome"] == outcome for line in chosen)],
    )


def some_wrong(lines: Sequence[Line], limit: int) -> list[Line]:
    """Up to ``limit`` items that are not right, in turn of each subtask and outcome."""
    kinds: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if line["outcome"] != Outcome.RIGHT:
            kinds[line["subtask"], line["outcome"]].append(line)
    turns = chain.from_iterable(zip_longest(*kinds.values()))
    return [line for line in turns if line is not None][:limit]


def case_of(line: Line) -> dict[str, Any]:
    """What a page shows of an item: its line, and a picture of each medium that can be read here."""
    strips = read_strips(line) if "media" in line else ()
    pictures = [webp_uri(filmstrip(strip.frames_FHWC), QUALITY) for strip in strips if len(strip.frames_FHWC)]
    return {"pictures": pictures, "line": line}


def _counts(lines: Sequence[Line]) -> dict[str, Any]:
    """How many items there are of each subtask and outcome."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        rows[line["subtask"]][line["outcome"]] += 1
    names = [outcome.value for outcome in Outcome if any(row[outcome] for row in rows.values())]
    total = sum(rows.values(), Counter[str]())
    named = [*sorted(rows.items()), *([("all", total)] if len(rows) > 1 else [])]
    return {"columns": names, "rows": [(name, [row[column] for column in names]) for name, row in named]}
