"""Items as pages show them: their options marked, replies whole, and a few frames of their media."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import numpy as np
from PIL import Image

from ktr.analysis.filmstrip import HEIGHT, filmstrip, read_strip
from ktr.analysis.html import webp_uri
from ktr.data.video import VideoReader, VideoSettings
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.rules.asked import Asked, named_options
from ktr.record.token_records import media_of
from ktr.types import MediaFile

NUM_FRAMES, MAX_MEDIA, MAX_WIDTH, QUALITY = 6, 4, 4096, 60
SECONDS = 60.0  # that all frames of a page may take to read
SETTINGS = VideoSettings(num_frames=NUM_FRAMES, min_pixels=1, max_pixels=1 << 24, decode_timeout_s=10)
T = TypeVar("T")


@dataclass(frozen=True)
class ShownOption:
    """An option; ``chosen_by`` are the titles of the answers that name it."""

    text: str
    is_right: bool
    chosen_by: tuple[str, ...]


@dataclass(frozen=True)
class ShownItem:
    """An item with its ``answers`` by title. ``tags`` are what a page filters by, ``strips`` pictures as data URIs."""

    about: Line
    tags: Mapping[str, str]
    options: tuple[ShownOption, ...]
    answers: Mapping[str, Line]
    strips: tuple[str, ...] = ()


def shown_item(answers: Mapping[str, Line], tags: Mapping[str, str], strips: Sequence[str]) -> ShownItem:
    """One item and the lines that answer it, one a title."""
    about = next(iter(answers.values()))
    options = tuple(about["options"])
    asked = Asked(about["answer"], about["problem_type"], options, about["written"], about["question"])
    named = {title: named_options(line["prediction"] or "", asked.bodies) for title, line in answers.items()}
    shown = tuple(
        ShownOption(text, label in asked.right, tuple(title for title, labels in named.items() if label in labels))
        for text, label in zip(options, asked.bodies if options else (), strict=True)
    )
    return ShownItem(about, tags, shown, answers, tuple(strips))


def strips_of(lines: Iterable[Line], seconds: float = SECONDS) -> dict[str, tuple[str, ...]]:
    """A picture of a few frames of each medium, by item id; those of a clip where an item is about one.

    A medium that is not on this machine, cannot be read, or would be read after ``seconds`` in all has none.
    """
    pictures: dict[MediaFile, str] = {}
    strips: dict[str, tuple[str, ...]] = {}
    end = monotonic() + seconds
    with closing(VideoReader(SETTINGS)) as reader:
        for line in lines:
            media = media_of(line)[:MAX_MEDIA] if "media" in line else ()
            for file in media:
                if file not in pictures:
                    pictures[file] = _picture(reader, file) if monotonic() < end else ""
            strips[line["id"]] = tuple(filter(None, (pictures[file] for file in media)))
    return strips


def _picture(reader: VideoReader, file: MediaFile) -> str:
    frames_FHWC = read_strip(reader, file).frames_FHWC
    if not len(frames_FHWC):
        return ""
    picture = Image.fromarray(filmstrip(frames_FHWC))
    picture.thumbnail((MAX_WIDTH, HEIGHT))
    return webp_uri(np.asarray(picture), QUALITY)


def in_turn(groups: Iterable[Sequence[T]], limit: int | None = None) -> list[T]:
    """The first of each group, then the second of each, and so on; ``limit`` of them at most."""
    waiting = [list(group) for group in groups]
    turns = range(max(map(len, waiting), default=0))
    return [group[turn] for turn in turns for group in waiting if turn < len(group)][:limit]
