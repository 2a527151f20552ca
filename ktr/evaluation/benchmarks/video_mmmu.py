"""VideoMMMU (arXiv 2501.13826): lectures in six disciplines, 300 questions in each of three tracks.

Adaptation asks about a picture with the video; 18 of its questions have a number as their answer, and no options.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, Item, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice, some_options
from ktr.evaluation.rules.asked import Asked
from ktr.rewards.answers import parse_number

TRACKS = ("Adaptation", "Comprehension", "Perception")  # in the order of the converted file
UNTOLD = "track not told"
DISCIPLINES = {
    "Art": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
        "Public_Health",
    ),
    "Humanities": ("History", "Literature", "Sociology", "Psychology"),
    "Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power",
        "Materials", "Mechanical_Engineering",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class VideoMMMU(Benchmark):
    name, rule, rows = "video_mmmu", "video_mmmu", 900

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        own, question, answer = (a_text(row, key, place) for key in ("id", "question", "answer"))
        options = some_options(row, "options", place)
        if options:
            asked = choice(question, options, answer, place, "answer")
        else:
            asked = Asked(answer, "free-form" if parse_number(answer) is None else "numerical", question=question)
        discipline = _discipline(own)
        video = ItemMedium((f"{discipline}/{own}.mp4", f"videos/{discipline}/{own}.mp4"))
        picture = _picture(row.get("image"), own)
        track = _track(row, place)
        return Fields(f"{track}-{own}" if track else own, asked, (video, picture) if picture else (video,))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        return _track(row, place) or UNTOLD

    def groups(self, row: Mapping[str, Any], fields: Fields) -> dict[str, str]:
        return {"discipline": _discipline(PurePosixPath(fields.media[0].paths[0]).stem)}

    def completed(self, items: list[Item]) -> list[Item]:
        """The converted file names no track, and has them one after the other, with each video once in each."""
        tracks = self.tracks_of([item.video for item in items if item.subtask == UNTOLD])
        told = iter(tracks)
        return [replace(item, subtask=next(told)) if item.subtask == UNTOLD else item for item in items]

    @staticmethod
    def tracks_of(videos: list[str]) -> list[str]:
        third = len(videos) // 3
        parts = [set(videos[start : start + third]) for start in (0, third, 2 * third)]
        whole = third and len(videos) == 3 * third and all(len(part) == third and part == parts[0] for part in parts)
        if not whole or set(Counter(videos).values()) != {3}:
            return [UNTOLD] * len(videos)
        return [track for track in TRACKS for _ in range(third)]


def _track(row: Mapping[str, Any], place: Place) -> str:
    """The track that the row, or its file's name, tells."""
    for told in (row.get("track"), row.get("config"), row.get("subset"), row.get("original_question_type")):
        if isinstance(told, str) and told.capitalize() in TRACKS:
            return told.capitalize()
    return next((track for track in TRACKS if track.lower() in place.file.stem.lower()), "")


def _discipline(own: str) -> str:
    subject = re.sub(r"^[a-z]+_|_\d+$", "", own)
    return next((name for name, subjects in DISCIPLINES.items() if subject in subjects), "other")


def _picture(image: Any, own: str) -> ItemMedium | None:
    if image in (None, "", {}, []):
        return None
    path = image.get("path") if isinstance(image, Mapping) else image
    given = (path,) if isinstance(path, str) and path else ()
    return ItemMedium((*given, f"images/{own}.png", f"images/{own}.jpg"), "image")
