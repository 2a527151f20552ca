"""One question of a benchmark, whatever form its row had."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ktr.errors import MalformedRow
from ktr.evaluation.rules.asked import Asked

MediumKind = Literal["video", "image", "frames"]


@dataclass(frozen=True)
class Place:
    """Where a row stands: its file, and its index in it from 0. Faults name both."""

    file: Path
    index: int

    def fault(self, field: str, reason: str) -> MalformedRow:
        """The error of a row one of whose fields cannot be used."""
        return MalformedRow(self.file, self.index, f"its {field!r} {reason}")


@dataclass(frozen=True)
class ItemMedium:
    """A video, a picture or a folder of frames: the paths below the media root at which it may lie, likeliest first."""

    paths: tuple[str, ...]
    kind: MediumKind = "video"


@dataclass(frozen=True)
class Fields:
    """What a row says: its id, the question, its media, and the part of the video that it is about, in seconds."""

    id: str
    asked: Asked
    media: tuple[ItemMedium, ...]
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Item(Fields):
    """An item of a benchmark. ``groups`` are further names to report accuracies by: a duration, a domain."""

    subtask: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def video(self) -> str:
        """What items that share a video have in common."""
        return self.media[0].paths[0] if self.media else ""


def a_text(row: Mapping[str, Any], key: str, place: Place) -> str:
    """The text at a key; a number is written out. Raises ``MalformedRow`` where there is none, or an empty one."""
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise place.fault(key, "is missing" if value is None else f"is of type {type(value).__name__}, and no text")
    if not value.strip():
        raise place.fault(key, "is empty")
    return value.strip()


def a_time(row: Mapping[str, Any], key: str, place: Place) -> float | None:
    """Seconds at a key; None where there is none."""
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise place.fault(key, f"is {value!r}, and no number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise place.fault(key, f"is {value!r}, and no number of seconds")
    return seconds
