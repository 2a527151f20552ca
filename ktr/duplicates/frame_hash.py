"""What a video or a picture looks like, in a few bytes that outlive another codec, size or frame rate.

Of each of a few frames a difference hash, 64 bits that say of a picture of 9 × 8 pixels where it grows darker from left
to right, and the mean colors of 8 × 8 cells. The bits are quick to compare with a hundred thousand others, and too
coarse to tell scenes with one background apart; the colors are compared where bits are near.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

SIDE = 8
FRAME = np.dtype([("bits", np.uint64), ("cells", np.uint8, (SIDE * SIDE, 3))])
FrameHash = Shaped[np.ndarray, " F"]  # of F frames, each a FRAME
STEP = 3  # gray levels: where a picture is even, a codec's noise decides what is darker by less
FLAT = 16  # levels: a frame without that much contrast looks like many others
# Of two frames that are the same so many cells may differ by more levels. Copies with another rate, codec or size
# measured 0 at most, other scenes of the embedded world and with one background .11 at least.
LEVELS, SHARE = 24, 0.05
FRAME_SHARE, LEAST_FRAMES = 0.75, 2
CHUNK = 10_000  # hashes whose cells are compared at a time


def frame_hash(frames_FHWC: UInt8[np.ndarray, "F H W 3"]) -> FrameHash:
    """The hash of some frames."""
    hashes = np.empty(len(frames_FHWC), FRAME)
    for place, frame in enumerate(frames_FHWC):
        picture = Image.fromarray(frame)
        levels = np.asarray(picture.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.int16)
        darker = levels[:, :-1] - levels[:, 1:] > STEP
        cells = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1, 3)
        hashes[place] = np.packbits(darker).view(np.uint64)[0], cells
    return hashes


class FrameHashes:
    """Many hashes of one number of frames, to find those that look like another."""

    def __init__(self, hashes: Sequence[FrameHash], max_distance: int) -> None:
        self.hashes_NF, self.max_distance = np.stack(hashes), max_distance
        self._bits_NF = np.ascontiguousarray(self.hashes_NF["bits"])
        self._flat_NF = _flat(self.hashes_NF["cells"])

    def near(self, other: FrameHash) -> list[tuple[int, float]]:
        """The places of the hashes that look like ``other``, each with its similarity: 1 less the mean share of bits
        that differ.

        Three quarters of the frames, two at least of a video, must be the same: at most ``max_distance`` of their bits
        differ, and few of their cells. Frames that are flat in both tell nothing and do not count.
        """
        distances_NF = np.bitwise_count(self._bits_NF ^ other["bits"])
        counted_NF = ~(self._flat_NF & _flat(other["cells"]))
        wanted_N = np.maximum(FRAME_SHARE * counted_NF.sum(axis=1), min(LEAST_FRAMES, len(other)))
        close_NF = (distances_NF <= self.max_distance) & counted_NF
        candidates = np.flatnonzero(close_NF.sum(axis=1) >= wanted_N)
        found: list[tuple[int, float]] = []
        for some in np.split(candidates, range(CHUNK, len(candidates), CHUNK)):
            same_NF = close_NF[some] & (_share_of_other_cells(self.hashes_NF["cells"][some], other["cells"]) <= SHARE)
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
