"""Video-MME (arXiv 2405.21075): 900 videos from 11 seconds to an hour, 2,700 questions, here without subtitles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.item import Fields, ItemMedium, Place, a_text
from ktr.evaluation.benchmarks.options import choice, some_options

DURATIONS = ("short", "medium", "long")


@dataclass(frozen=True)
class VideoMME(Benchmark):
    name, rule, metric, rows = "videomme", "videomme", "answered", 2700

    def rows_in(self, document: Any, place: Place) -> Iterator[Any]:
        """The file for its script has a row for a video, with its questions in it."""
        questions = document.get("questions") if isinstance(document, Mapping) else None
        if not isinstance(questions, list):
            yield document
            return
        for question in questions:
            yield {**document, **question} if isinstance(question, Mapping) else question

    def official(self, row: Mapping[str, Any], place: Place) -> Fields:
        own, question = a_text(row, "question_id", place), a_text(row, "question", place)
        key = "options" if "options" in row else "choices"
        asked = choice(question, some_options(row, key, place), a_text(row, "answer", place), place, "answer")
        names = [a_text(row, "videoID", place)] if row.get("videoID") else []
        names.append(a_text(row, "video_id", place))
        return Fields(own, asked, (ItemMedium(tuple(f"data/{name}.mp4" for name in names)),))

    def subtask(self, row: Mapping[str, Any], fields: Fields, place: Place) -> str:
        return self.told(row, ("duration", "duration_category"), DURATIONS, place)

    def groups(self, row: Mapping[str, Any], fields: Fields) -> dict[str, str]:
        task = row.get("task_type") or row.get("original_question_type")
        named = {"domain": row.get("domain"), "sub_category": row.get("sub_category"), "task_type": task}
        return {name: str(value) for name, value in named.items() if value}
