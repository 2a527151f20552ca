"""MVBench (arXiv 2311.17005): 20 tasks of 200 questions, from the videos of eleven older data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, Item, ItemMedium, Place, a_text, a_time
from ktr.evaluation.benchmarks.options import choice, some_options

FOLDERS = {  # of a task's videos; in the order of the tasks' files, which is that of the converted one
    "action_antonym": "ssv2_video", "action_count": "perception/videos", "action_localization": "sta/sta_video",
    "action_prediction": "star/Charades_v1_480", "action_sequence": "star/Charades_v1_480",
    "character_order": "perception/videos", "counterfactual_inference": "clevrer/video_validation",
    "egocentric_navigation": "vlnqa", "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos", "fine_grained_pose": "nturgbd",
    "moving_attribute": "clevrer/video_validation", "moving_count": "clevrer/video_validation",
    "moving_direction": "clevrer/video_validation", "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480", "object_shuffle": "perception/videos",
    "scene_transition": "scene_qa/video", "state_change": "perception/videos", "unexpected_action": "FunQA_test/test",
}  # fmt: skip
FRAMES = "tvqa/frames_fps3_hq"
UNTOLD = "task not told"


@dataclass(frozen=True)
class MVBench(Benchmark):
    name, rule, metric, rows = "mvbench", "mvbench", "macro", 4000

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        video, question = a_text(row, "video", place), a_text(row, "question", place)
        options = some_options(row, "candidates", place)
        asked = choice(question, options, a_text(row, "answer", place), place, "answer", is_text=True)
        folder = FOLDERS[_task(row, place)]
        medium = ItemMedium((f"video/{folder}/{video}",), "frames" if folder == FRAMES else "video")
        start, end = a_time(row, "start", place), a_time(row, "end", place)
        return Fields(f"{place.file.stem}-{place.index}", asked, (medium,), start, end)

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        return _task_told(row, place) or UNTOLD

    def completed(self, items: list[Item]) -> list[Item]:
        """The converted file tells no task: it is that of the row's place where the file is whole, else of its folder.

        Some folders are those of several tasks.
        """
        untold = [place for place, item in enumerate(items) if item.subtask == UNTOLD]
        by_place = [task for task in FOLDERS for _ in range(200)]
        is_whole = len(untold) == len(by_place) and all(
            _lies_in(items[place], FOLDERS[task]) for place, task in zip(untold, by_place)
        )
        told = dict(zip(untold, by_place)) if is_whole else {place: _task_of_folder(items[place]) for place in untold}
        return [_as_task(item, told[place]) if place in told else item for place, item in enumerate(items)]


def _task(row: Mapping[str, Any], place: Place) -> str:
    if task := _task_told(row, place):
        return task
    raise place.fault("task_type", f"is missing, and the file is not named after one of the tasks {', '.join(FOLDERS)}")


def _task_told(row: Mapping[str, Any], place: Place) -> str:
    told = (row.get("task_type"), row.get("task"), row.get("original_question_type"), place.file.stem)
    names = [str(name).strip().lower().replace(" ", "_").replace("-", "_") for name in told if name]
    return next((name for name in names if name in FOLDERS), "")


def _lies_in(item: Item, folder: str) -> bool:
    """A path may be shortened, but for the first folder of a data set."""
    return folder.split("/")[0] in PurePosixPath(item.video).parts


def _task_of_folder(item: Item) -> str:
    tasks = [task for task, folder in FOLDERS.items() if _lies_in(item, folder)]
    return tasks[0] if len(tasks) == 1 else UNTOLD


def _as_task(item: Item, task: str) -> Item:
    if FOLDERS.get(task) != FRAMES:
        return replace(item, subtask=task)
    frames = tuple(replace(m, kind="video" if PurePosixPath(m.paths[0]).suffix else "frames") for m in item.media)
    return replace(item, subtask=task, media=frames)
