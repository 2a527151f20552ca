"""MMVU (arXiv 2501.12380): expert knowledge in 27 disciplines, 1,000 questions: 625 multiple choice and 375 open."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, Item, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice, some_options
from ktr.evaluation.rules.asked import Asked


@dataclass(frozen=True)
class MMVU(Benchmark):
    """Its script has a chat model judge both kinds; without one, multiple choice is read leniently.

    Args:
        part: the multiple choice, as papers mean by MMVU(mc), or the open questions.
    """

    part: Literal["multiple_choice", "open"] = "multiple_choice"

    name, rule = "mmvu", "lenient"

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        question, answer = a_text(row, "question", place), a_text(row, "answer", place)
        kind = a_text(row, "question_type", place)
        if kind == "multiple-choice":
            asked = choice(question, some_options(row, "choices", place), answer, place, "answer")
        elif kind == "open-ended":
            asked = Asked(answer, "free-form", question=question)
        else:
            raise place.fault("question_type", f"is {kind!r}, and neither multiple-choice nor open-ended")
        path = a_text(row, "video", place)
        return Fields(a_text(row, "id", place), asked, (ItemMedium((path.rpartition("/resolve/main/")[2],)),))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        """The discipline: the folder of the video."""
        discipline = PurePosixPath(fields.media[0].paths[0]).parent.name
        return discipline if fields.asked.problem_type == "multiple choice" else f"open: {discipline}"

    def belongs(self, item: Item) -> bool:
        return (item.asked.problem_type == "multiple choice") == (self.part == "multiple_choice")
