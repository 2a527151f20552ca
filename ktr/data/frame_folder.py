"""A video that lies on disk as a folder of its frames, a picture each."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ktr.data.image import read_image
from ktr.errors import CorruptMedia

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder, by the numbers in their names. Raises ``CorruptMedia`` where it has none."""
    shown = [file for file in folder.iterdir() if not file.name.startswith(".")]  # macOS packs a hidden one with each
    files = [file for file in shown if file.suffix.lower() in ENDINGS]
    if not files:
        raise CorruptMedia(folder, "it is a folder, without pictures in it")
    return sorted(files, key=_by_number)


def read_frames(folder: Path, files: Sequence[Path]) -> UInt8[np.ndarray, "F H W 3"]:
    """The pictures, each file read once. Raises ``CorruptMedia`` where they are not of one size."""
    read = {file: read_image(file) for file in dict.fromkeys(files)}
    sizes = {frame_HWC.shape[:2] for frame_HWC in read.values()}
    if len(sizes) > 1:
        raise CorruptMedia(folder, f"its frames are of several sizes, such as {sorted(sizes)[:2]}")
    return np.stack([read[file] for file in files])


def _by_number(file: Path) -> list[tuple[int, str]]:
    """``img_2.jpg`` before ``img_10.jpg``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.stem)]
