"""Video-Holmes (arXiv 2505.21374): reasoning over short suspense films, 1,837 questions in seven subtasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice, some_options

SUBTASKS = ("SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI")


@dataclass(frozen=True)
class VideoHolmes(Benchmark):
    name, rule, rows = "video_holmes", "video_holmes", 1837

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        video, question = a_text(row, "video ID", place), a_text(row, "Question", place)
        asked = choice(question, some_options(row, "Options", place), a_text(row, "Answer", place), place, "Answer")
        paths = (f"videos_cropped/{video}.mp4", f"videos/{video}.mp4")
        own = f"{video}-{a_text(row, 'Question ID', place)}"  # ids count anew in each video
        return Fields(own, asked, (ItemMedium(paths),))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        return self.told(row, ("Question Type", "original_question_type"), SUBTASKS, place)
