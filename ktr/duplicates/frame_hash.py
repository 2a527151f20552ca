"""What a video or a picture looks like, in a few bytes that outlive another codec, size or frame rate.

Of each of a few frames a difference hash, 64 bits that say of a picture of 9 × 8 pixels where it grows darker from left
to right, and the mean colors of 8 × 8 cells. The bits are quick to compare with a hundred thousand others, and too
coarse to tell scenes with one background apart; the colors are compared where bits are near.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt64
from PIL import Image

NUM_FRAMES = 8
SIDE = 8
NUM_CELLS = SIDE * SIDE
STEP = 3  # gray levels: where a picture is even, a codec's noise decides what is darker by less
FLAT = 16  # levels: a frame without that much contrast looks like many others
# Of two frames that are the same so many cells may differ by more levels. Copies with another rate, codec or size
# measured 0 at most, other scenes of the embedded world and with one background .11 at least (docs/training_data.md).
LEVELS, SHARE = 24, 0.05
FRAME_SHARE, LEAST_FRAMES = 0.75, 2
CHUNK = 10_000  # frames whose cells are compared at a time


@dataclass(frozen=True)
class FrameHash:
    """Of F frames, ``NUM_FRAMES`` of a video and one of a picture, the bits and the colors of their C cells."""

    bits_F: UInt64[np.ndarray, " F"]
    cells_FC3: UInt8[np.ndarray, "F C 3"]

    def to_bytes(self) -> bytes:
        return self.bits_F.tobytes() + self.cells_FC3.tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "FrameHash":
        """Raises ValueError where the bytes are not those of ``to_bytes``."""
        num_frames, rest = divmod(len(data), 8 + 3 * NUM_CELLS)
        if rest or not num_frames:
            raise ValueError(f"{len(data)} bytes are no hash of frames")
        bits_F = np.frombuffer(data, np.uint64, num_frames)
        return FrameHash(bits_F, np.frombuffer(data, np.uint8, offset=8 * num_frames).reshape(num_frames, -1, 3))


def frame_hash(frames_FHWC: UInt8[np.ndarray, "F H W 3"]) -> FrameHash:
    """The hash of some frames."""
    pictures = [Image.fromarray(frame) for frame in frames_FHWC]
    gray = [picture.convert("L").resize((9, 8), Image.Resampling.BOX) for picture in pictures]
    levels_F89 = np.stack([np.asarray(picture, np.int16) for picture in gray])
    darker_FB = (levels_F89[:, :, :-1] - levels_F89[:, :, 1:] > STEP).reshape(len(pictures), 64)
    cells = [np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1, 3) for picture in pictures]
    return FrameHash(np.packbits(darker_FB, axis=1).view(np.uint64)[:, 0], np.stack(cells))


class FrameHashes:
    """Many hashes of one number of frames, to find those that look like another."""

    def __init__(self, hashes: list[FrameHash], max_distance: int) -> None:
        self.max_distance = max_distance
        self.bits_NF = np.stack([each.bits_F for each in hashes])
        self.cells_NFC3 = np.stack([each.cells_FC3 for each in hashes])
        self.flat_NF = _flat(self.cells_NFC3)

    def near(self, other: FrameHash) -> list[tuple[int, float]]:
        """The places of the hashes that look like ``other``, each with its similarity: 1 less the mean share of bits
        that differ.

        Three quarters of the frames, two at least of a video, must be the same: at most ``max_distance`` of their bits
        differ, and few of their cells. Frames that are flat in both tell nothing and do not count.
        """
        distances_NF = np.bitwise_count(self.bits_NF ^ other.bits_F)
        counted_NF = ~(self.flat_NF & _flat(other.cells_FC3))
        wanted_N = np.maximum(FRAME_SHARE * counted_NF.sum(axis=1), min(LEAST_FRAMES, len(other.bits_F)))
        close_NF = (distances_NF <= self.max_distance) & counted_NF
        candidates = np.flatnonzero(close_NF.sum(axis=1) >= wanted_N)
        found: list[tuple[int, float]] = []
        for some in np.split(candidates, range(CHUNK, len(candidates), CHUNK)):
            same_NF = close_NF[some] & (_share_of_other_cells(self.cells_NFC3[some], other.cells_FC3) <= SHARE)
            for place in some[same_NF.sum(axis=1) >= wanted_N[some]]:
                mean = distances_NF[place][counted_NF[place]].mean()
                found.append((int(place), round(1 - float(mean) / 64, 3)))
        return found


def _flat(cells_FC3: UInt8[np.ndarray, "*F C 3"]) -> Bool[np.ndarray, "*F"]:
    return (cells_FC3.max(axis=-2) - cells_FC3.min(axis=-2)).max(axis=-1) < FLAT


def _share_of_other_cells(
    cells_NFC3: UInt8[np.ndarray, "N F C 3"], other_FC3: UInt8[np.ndarray, "F C 3"]
) -> Float[np.ndarray, "N F"]:
    """The share of cells with another color, but for the brightness of the whole."""
    difference_NFC3 = cells_NFC3.astype(np.int16) - other_FC3
    difference_NFC3 = difference_NFC3 - np.median(difference_NFC3, axis=-2, keepdims=True)
    return (np.abs(difference_NFC3).max(axis=-1) > LEVELS).mean(axis=-1)
