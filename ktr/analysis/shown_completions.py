"""The completions that the report shows: which ones, and how a question with its answers looks."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ktr.analysis.filmstrip import write_filmstrips
from ktr.analysis.markup import Markup, element, embedded_image
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.token_html import completion_html, legend
from ktr.record.token_records import Record

MAX_HELD_OUT, MAX_TRAINING = 6, 3


def shown_completions(run: RunFolder) -> Markup:
    """A few held-out questions and a few of the last logged training step, each with its video and its completions."""
    held_out = choose_questions(run.attribution, MAX_HELD_OUT)
    last_step = run.rollouts[-1]["step"] if run.rollouts else 0
    latest = [record for record in run.rollouts if record["step"] == last_step]
    latest.sort(key=lambda record: not record["scores"])  # first those that the step learned from
    training = choose_questions(latest, MAX_TRAINING)
    shown = held_out + training
    if not shown:
        return Markup("")
    strips = write_filmstrips(run.path / "figures", [records[0] for records in shown])
    has_roles = any("roles" in record for records in shown for record in records)
    parts = [legend(run.signals, has_roles)]
    for title, questions in (("Held out", held_out), (f"Training, step {last_step}", training)):
        if questions:
            parts.append(element("h3", title))
            parts += [_question(records, strips.get(records[0]["question"])) for records in questions]
    note = "Hover a token for its probability and its score by each signal." if run.signals else ""
    return element("section", element("h2", "Completions"), element("p", note, class_="note"), *parts)


def choose_questions(records: Sequence[Record], limit: int) -> list[list[Record]]:
    """Up to ``limit`` questions, of each category in turn, each with its best and, if worse, its worst answer."""
    by_question = {key: list(group) for key, group in groupby(records, key=lambda record: record["question"])}
    by_category: dict[str, list[list[Record]]] = {}
    for group in by_question.values():
        by_category.setdefault(group[0]["category"], []).append(group)
    turns = range(max((len(groups) for groups in by_category.values()), default=0))
    ordered = [groups[turn] for turn in turns for groups in by_category.values() if turn < len(groups)]
    return [_right_and_wrong(group) for group in ordered[:limit]]


def _right_and_wrong(group: list[Record]) -> list[Record]:
    best = max(group, key=lambda record: record["reward"])
    worst = min(group, key=lambda record: record["reward"])
    return [best, worst] if worst["reward"] < best["reward"] else [best]


def _question(records: list[Record], strip: Path | None) -> Markup:
    first = records[0]
    options = f" Options: {', '.join(first['options'])}." if first["options"] else ""
    facts = element("span", f"{options} Answer: {first['answer']}. ({first['category'] or first['problem_type']})")
    picture = embedded_image(strip, "frames of the video", class_="filmstrip") if strip else ""
    return element(
        "div",
        element("p", first["problem"], " ", facts, class_="asked"),
        picture,
        *(completion_html(record) for record in records),
        class_="question",
    )
