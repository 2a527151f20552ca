"""TempCompass (arXiv 2403.00476): action, speed, direction, order and change, asked in four ways: 7,540 questions.

Papers mean one or the other by the name: all four tasks, or the 1,580 of multi-choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.converted import is_converted
from ktr.evaluation.benchmarks.item import Fields, Item, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice
from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.tempcompass import TASKS, split_question, task_of

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class TempCompass(Benchmark):
    """Captions need a chat model as their judge: without one they are no answers.

    Args:
        tasks: which of the four are measured.
    """

    tasks: Sequence[str] = TASKS

    name, rule = "tempcompass", "tempcompass"

    def rows_in(self, document: Any, place: Place) -> Iterator[Any]:
        """The official file is an object of videos, of dimensions, of lists of questions."""
        if not isinstance(document, Mapping) or "question" in document or "problem" in document:
            yield document
            return
        for video, dimensions in document.items():
            for dimension, rows in dimensions.items() if isinstance(dimensions, Mapping) else [("", dimensions)]:
                for row in rows if isinstance(rows, list) else [rows]:
                    is_row = isinstance(row, Mapping)
                    yield {"video_id": video, "dim": dimension, **row} if is_row else row

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        video, question, answer = (a_text(row, key, place) for key in ("video_id", "question", "answer"))
        task = task_of(question, answer)
        if task == "captioning":
            asked = Asked(answer, "free-form", question=question)
        elif task == "yes_no":
            asked = Asked(answer.lower(), "multiple choice", YES_NO, question=question)
        else:
            stem, options = split_question(question)
            if not options:
                raise place.fault("question", "has no options below it")
            asked = choice(stem, options, answer, place, "answer")
        own = f"{task}-{video}-{row.get('dim', '')}-{place.index}"
        return Fields(own, asked, (ItemMedium((f"videos/{video}.mp4",)),))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        told = str(row.get("original_question_type") or row.get("task") or "").replace(" ", "_").lower()
        told = {"multi_choice": "multi-choice", "multiple-choice": "", "multiple_choice": ""}.get(told, told)
        if told in TASKS:
            return told
        if not is_converted(row):
            return task_of(str(row["question"]), str(row["answer"]))
        return task_of(fields.asked.question, fields.asked.written or fields.asked.answer, fields.asked.options)

    def groups(self, row: Mapping[str, Any], fields: Fields) -> dict[str, str]:
        return {"dimension": str(row["dim"])} if row.get("dim") else {}

    def belongs(self, item: Item) -> bool:
        return item.subtask in self.tasks
