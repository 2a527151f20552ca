"""A video in one picture: a few of its frames side by side."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import MediaError
from ktr.record.token_records import Record

HEIGHT, GAP = 72, 3
SETTINGS = VideoSettings(num_frames=8, min_pixels=1, max_pixels=1 << 24)
log = logging.getLogger(__name__)


def write_filmstrips(folder: Path, records: Sequence[Record]) -> dict[str, Path]:
    """Filmstrips of the questions' videos, by question id; those already in ``folder`` are kept.

    A video that isn't on this machine (a run folder copied elsewhere), or can't be read, has none, and is logged.
    """
    strips: dict[str, Path] = {}
    reader = VideoReader(SETTINGS)
    for record in records:
        strip = folder / f"filmstrip-{re.sub(r'[^A-Za-z0-9_-]+', '-', record['question'])}.png"
        if record["data_type"] == "video" and not strip.exists():
            try:
                Image.fromarray(filmstrip(reader.read(Path(record["media"])).frames_FHWC)).save(strip)
            except MediaError as error:
                log.info("no filmstrip: %s", error)
        if strip.exists():
            strips[record["question"]] = strip
    reader.close()
    return strips


def read_frames(record: Record) -> tuple[UInt8[np.ndarray, "F H W 3"], float] | None:
    """Some frames of the medium that a record is about, and the seconds between them; None where it can't be read."""
    reader, path = VideoReader(SETTINGS), Path(record["media"])
    try:
        if record["data_type"] == "image":
            return reader.read_image(path)[None], 0.0
        video = reader.read(path)
        return video.frames_FHWC, video.seconds_per_temporal_patch(1)
    except MediaError as error:
        log.info("no frames: %s", error)
        return None
    finally:
        reader.close()


def filmstrip(frames_FHWC: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The frames from left to right, scaled to ``HEIGHT``, with white gaps."""
    height, width = frames_FHWC.shape[1:3]
    size = (max(1, round(width * HEIGHT / height)), HEIGHT)
    gap = np.full((HEIGHT, GAP, 3), 255, dtype=np.uint8)
    parts = [part for frame in frames_FHWC for part in (gap, np.asarray(Image.fromarray(frame).resize(size)))]
    return np.concatenate(parts[1:], axis=1)
