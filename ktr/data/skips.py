"""Questions that were left out, and why: counted by kind, logged once each, kept as JSON lines."""

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from ktr.errors import MediaError, PromptTooLong, RowError
from ktr.types import VideoQuestion

logger = logging.getLogger(__name__)

QuestionFault = MediaError | PromptTooLong


@dataclass(frozen=True)
class Skip:
    """One question left out. ``kind`` is the name of an error class of ``ktr.errors``; ``stage`` is where it showed:
    "rows" (reading the annotations), "train" or "validation" (reading the media)."""

    stage: str
    source: str
    row: int | None
    id: str
    kind: str
    reason: str

    @staticmethod
    def of_row(error: RowError | MediaError, source: Path, row: int, id: str) -> "Skip":
        return Skip("rows", str(source), row, id, type(error).__name__, str(error))

    @staticmethod
    def of_question(error: QuestionFault, stage: str, question: VideoQuestion) -> "Skip":
        return Skip(stage, question.source, None, question.id, type(error).__name__, str(error))


class SkipLog:
    """Counts skips by kind in ``counts`` and appends each as a line of JSON to ``path`` (nowhere if None).

    A line is written with one call, so several processes may share the file.
    """

    def __init__(self, path: Path | str | None = None):
        self.path = None if path is None else Path(path)
        self.counts: Counter[str] = Counter()

    def record(self, skip: Skip) -> None:
        self.counts[skip.kind] += 1
        logger.warning("skipped question %s (%s, %s): %s", skip.id, skip.stage, skip.kind, skip.reason)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(skip), ensure_ascii=False) + "\n")
