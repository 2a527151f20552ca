"""Questions that were left out, and why: counted by kind, logged once each, kept as JSON lines."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ktr.errors import MediaError, PromptTooLong, RowError, naming
from ktr.types import VideoQuestion

logger = logging.getLogger(__name__)

QuestionFault = MediaError | PromptTooLong | RowError


@dataclass(frozen=True)
class Skip:
    """One question left out. ``kind`` is the name of an error class of ``ktr.errors``; ``stage`` is where it showed:
    "rows" (reading the annotations), "train" or "validation" (reading ``media``)."""

    stage: str
    source: str
    row: int | None
    id: str
    media: str | None
    kind: str
    reason: str

    @staticmethod
    def of_row(error: RowError | MediaError, source: Path, row: int, id: str) -> "Skip":
        return Skip("rows", str(source), row, id, None, type(error).__name__, str(error))

    @staticmethod
    def of_question(error: QuestionFault, stage: str, question: VideoQuestion) -> "Skip":
        files = [error.path] if isinstance(error, MediaError) else [file.path for file in question.media]
        media = ", ".join(map(str, files))
        return Skip(stage, question.source, None, question.id, media, type(error).__name__, str(error))


class SkipLog:
    """Counts skips by kind and appends each as a line of JSON to ``path`` (nowhere if None), once.

    A question that is met again is no new skip: in a later epoch or validation, on another rank, or after the run was
    resumed from before it. All processes of a run share the file, and their counts are those of its lines.
    """

    def __init__(self, path: Path | str | None = None):
        self.path = None if path is None else Path(path)
        self._known: set[tuple[Any, ...]] = set()
        self._counts: Counter[str] = Counter()
        self._bytes_read = 0

    @property
    def counts(self) -> Counter[str]:
        """Skipped questions by kind, of all processes."""
        self._read_on()
        return self._counts

    def record(self, skip: Skip) -> None:
        with naming(self.path or ""), self._alone():
            self._read_on()
            if not self._add(asdict(skip)):
                return
            logger.warning("skipped question %s (%s, %s): %s", skip.id, skip.stage, skip.kind, skip.reason)
            if self.path is not None:
                line = json.dumps(asdict(skip), ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
                with self.path.open("r+b" if self.path.exists() else "wb") as file:
                    file.seek(self._bytes_read)  # over the torn last line of a process that was killed
                    file.truncate()
                    self._bytes_read += file.write(line)

    def _add(self, skip: Mapping[str, Any]) -> bool:
        """Count a skip; False where it is known. Its reason may differ from time to time and is no part of it."""
        key = tuple(skip.get(name) for name in ("stage", "source", "row", "id", "media", "kind"))
        if key in self._known:
            return False
        self._known.add(key)
        self._counts[skip["kind"]] += 1
        return True

    def _read_on(self) -> None:
        """Count the lines that were written since the last look, by this run's earlier processes or by other ranks."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._bytes_read)
            for line in file:
                if line.endswith(b"\n"):
                    self._bytes_read += len(line)
                    self._add(json.loads(line))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the file among all processes of the run."""
        if self.path is None:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            yield
