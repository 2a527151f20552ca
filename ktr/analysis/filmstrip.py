"""A medium in one picture: a few of its frames side by side."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import MediaError
from ktr.record.file_name import file_name
from ktr.record.token_records import Record, media_of
from ktr.types import MediaFile

HEIGHT, GAP = 72, 3
SETTINGS = VideoSettings(num_frames=8, min_pixels=1, max_pixels=1 << 24)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Strip:
    """Frames of a video, ``seconds`` after each other, or the one picture of an image; none where it can't be read."""

    file: MediaFile
    frames_FHWC: UInt8[np.ndarray, "F H W 3"]
    seconds: float = 0.0


def write_filmstrips(folder: Path, records: Sequence[Record]) -> dict[str, list[Path | None]]:
    """A filmstrip of each medium of the questions, by ``strip_name``; those already in ``folder`` are kept.

    A medium that isn't on this machine (a run folder copied elsewhere), or can't be read, has None, and is logged.
    """
    strips: dict[str, list[Path | None]] = {}
    with closing(VideoReader(SETTINGS)) as reader:
        for record in records:
            name = strip_name(record)
            of_question = strips[name] = []
            for place, file in enumerate(media_of(record), 1):
                path = folder / f"filmstrip-{name}{f'.{place}' if place > 1 else ''}.png"
                if not path.exists() and len(frames_FHWC := read_strip(reader, file).frames_FHWC):
                    Image.fromarray(filmstrip(frames_FHWC)).save(path)
                of_question.append(path if path.exists() else None)
    return strips


def strip_name(record: Record) -> str:
    """What filmstrips are called: after the question and its media, for two questions of a run may share an id."""
    media = "\n".join(f"{file.path} {file.clip}" for file in media_of(record))
    return f"{file_name(record['question'])}-{crc32(media.encode('utf-8', 'surrogateescape')):08x}"


def read_strips(record: Record) -> tuple[Strip, ...]:
    """Some frames of each medium that a record is about."""
    with closing(VideoReader(SETTINGS)) as reader:
        return tuple(read_strip(reader, file) for file in media_of(record))


def read_strip(reader: VideoReader, file: MediaFile) -> Strip:
    """Some frames of a medium, of a video those of its clip; none, and a line in the log, where it can't be read."""
    try:
        if file.kind == "image":
            return Strip(file, reader.read_image(file.path)[None])
        video = reader.read(file.path, file.clip)
        return Strip(file, video.frames_FHWC, video.seconds_per_temporal_patch(1))
    except MediaError as error:
        log.info("no frames: %s", error)
        return Strip(file, np.empty((0, 1, 1, 3), np.uint8))


def filmstrip(frames_FHWC: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The frames from left to right, scaled to ``HEIGHT``, with white gaps."""
    height, width = frames_FHWC.shape[1:3]
    size = (max(1, round(width * HEIGHT / height)), HEIGHT)
    gap = np.full((HEIGHT, GAP, 3), 255, dtype=np.uint8)
    parts = [part for frame in frames_FHWC for part in (gap, np.asarray(Image.fromarray(frame).resize(size)))]
    return np.concatenate(parts[1:], axis=1)
