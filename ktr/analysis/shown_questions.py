"""The completions that the report shows: a few questions, each with its best and its worst answer."""

from collections.abc import Sequence
from itertools import groupby

from ktr.analysis.run_folder import RunFolder
from ktr.record.token_records import Record

MAX_HELD_OUT, MAX_TRAINING = 6, 3


def shown_questions(run: RunFolder) -> dict[str, list[list[Record]]]:
    """By title, a few held-out questions and a few of the last logged training step, each with its completions."""
    last_step = run.rollouts[-1]["step"] if run.rollouts else 0
    latest = [record for record in run.rollouts if record["step"] == last_step]
    latest.sort(key=lambda record: not record["scores"])  # first those that the step learned from
    groups = {
        "Held out": choose_questions(run.attribution, MAX_HELD_OUT),
        f"Training, step {last_step}": choose_questions(latest, MAX_TRAINING),
    }
    return {title: questions for title, questions in groups.items() if questions}


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
