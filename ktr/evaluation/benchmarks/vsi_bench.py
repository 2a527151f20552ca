"""VSI-Bench (arXiv 2412.14171): sizes, distances, counts and routes in rooms; 2,490 choices and 2,640 numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice, some_options
from ktr.evaluation.rules.asked import Asked
from ktr.rewards.answers import parse_number

TASKS = (
    "object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation", "object_rel_distance",
    "object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard", "route_planning",
    "obj_appearance_order",
)  # fmt: skip


@dataclass(frozen=True)
class VSIBench(Benchmark):
    name, rule, metric, rows = "vsi_bench", "vsi_bench", "vsi_bench", 5130

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        question, answer = a_text(row, "question", place), a_text(row, "ground_truth", place)
        if options := some_options(row, "options", place):
            asked = choice(question, options, answer, place, "ground_truth")
        elif parse_number(answer) is None:
            raise place.fault("ground_truth", f"is {answer!r}, which is no number, and there are no options")
        else:
            asked = Asked(answer, "regression", question=question)
        folder, scene = a_text(row, "dataset", place), a_text(row, "scene_name", place)
        own = a_text(row, "id", place) if "id" in row else f"{scene}-{place.index}"
        return Fields(own, asked, (ItemMedium((f"{folder}/{scene}.mp4",)),))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        return self.told(row, ("question_type", "original_question_type"), TASKS, place)
