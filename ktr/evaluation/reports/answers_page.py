"""wrong.html: what an evaluation got wrong, and how: some items of each outcome and subtask, and counts of all."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ktr.analysis.html import write_page
from ktr.evaluation.asking.items_file import Line, read_lines
from ktr.evaluation.reports.shown_items import in_turn, shown_item, strips_of
from ktr.evaluation.rules.outcome import Outcome
from ktr.record.json_file import read_object

MAX_ITEMS = 60


def write_answers_page(run_dir: Path) -> Path:
    """Write the page into an evaluation's folder, from its files alone; return its path.

    Raises ``MissingData`` where the folder holds no items.
    """
    lines = read_lines(run_dir)
    identity = read_object(run_dir / "identity.json") or {}
    chosen = choose(lines)
    strips = strips_of(chosen)
    tags = [{"outcome": line["outcome"], "subtask": line["subtask"]} for line in chosen]
    return write_page(
        run_dir / "wrong.html",
        "answers.html",
        title=run_dir.resolve().name,
        benchmark=identity.get("benchmark", {}).get("name", ""),
        rule=identity.get("rule", ""),
        counts=counts(lines),
        num_wrong=sum(line["outcome"] != Outcome.RIGHT for line in lines),
        items=[shown_item({"answered": line}, tag, strips[line["id"]]) for line, tag in zip(chosen, tags, strict=True)],
    )


def choose(lines: Sequence[Line], limit: int = MAX_ITEMS) -> list[Line]:
    """Items that are not right: outcomes in turn, and within each the subtasks; in the order of the file."""
    by_outcome: dict[str, dict[str, list[Line]]] = {}
    for line in lines:
        if line["outcome"] != Outcome.RIGHT:
            by_outcome.setdefault(line["outcome"], {}).setdefault(line["subtask"], []).append(line)
    chosen = in_turn([in_turn(by_subtask.values()) for by_subtask in by_outcome.values()], limit)
    ids = {line["id"] for line in chosen}
    return [line for line in lines if line["id"] in ids]


def counts(lines: Sequence[Line]) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """The outcomes that there are, and of each subtask and of all how many items have each, their sum last."""
    found = Counter((line["subtask"], line["outcome"]) for line in lines)
    outcomes = [outcome.value for outcome in Outcome if any(key[1] == outcome for key in found)]
    rows = []
    for name in sorted({subtask for subtask, _ in found}):
        row = [found[name, outcome] for outcome in outcomes]
        rows.append((name, [*row, sum(row)]))
    sums = [sum(column) for column in zip(*(row for _, row in rows), strict=True)]
    return outcomes, [*(rows if len(rows) > 1 else []), ("all", sums)]
