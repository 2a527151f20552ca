"""Copies in another size, codec or frame rate look alike; other scenes do not, though their background is one."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ktr.data.video import VideoReader
from ktr.duplicates.frame_hash import FRAME, FrameHash, FrameHashes, frame_hash
from ktr.duplicates.media_hashes import NUM_FRAMES, SETTINGS

HEIGHT, WIDTH, LENGTH = 96, 128, 24
BITS = 10


def scene(seed: int) -> np.ndarray:
    """Four squares that move over a background that all scenes share."""
    draw = np.random.default_rng(seed)
    coarse = np.random.default_rng(99).integers(90, 140, (12, 16, 3), dtype=np.uint8)
    background = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    frames = np.repeat(background[None], LENGTH, axis=0)
    for _ in range(4):
        side, color = draw.integers(10, 16), draw.integers(0, 255, 3)
        (y, x), (down, right) = draw.uniform(0, 80, 2), draw.uniform(-1.5, 1.5, 2)
        for time, frame in enumerate(frames):
            top, left = int(np.clip(y + down * time, 0, 80)), int(np.clip(x + right * time, 0, 110))
            frame[top : top + side, left : left + side] = color
    return frames


def resized(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC)) for f in frames])


@pytest.fixture
def hash_of(tmp_path: Path) -> Callable[..., FrameHash]:
    """The hash of frames that were written to a file and read from it."""
    reader = VideoReader(SETTINGS)

    def made(frames: np.ndarray, rate: int = 24, codec: str = "libx264", name: str = "v.mp4", **options: str):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
        return frame_hash(reader.read(tmp_path / name).frames_FHWC)

    yield made
    reader.close()


COPIES = {
    "smaller": lambda frames: (resized(frames, 64, 48), {}),
    "larger": lambda frames: (resized(frames, 256, 192), {}),
    "of another aspect": lambda frames: (resized(frames, 96, 96), {}),
    "poor": lambda frames: (frames, {"crf": "36"}),
    "half the rate": lambda frames: (frames[::2], {"rate": 12}),
    "of another codec": lambda frames: (frames, {"codec": "mpeg4", "name": "v.avi", "b": "300k"}),
    "brighter": lambda frames: (np.minimum(frames.astype(int) + 20, 255).astype(np.uint8), {}),
    "all of it": lambda frames: (resized(frames[::2], 86, 64), {"rate": 12, "crf": "32"}),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_and_no_other_scene(copy: str, hash_of):
    scenes = [scene(seed) for seed in range(4)]
    hashes = FrameHashes([hash_of(frames) for frames in scenes], BITS)
    for place, frames in enumerate(scenes):
        changed, options = COPIES[copy](frames)
        assert [found for found, _ in hashes.near(hash_of(changed, **options))] == [place]


def test_the_bits_alone_would_take_scenes_with_one_background_for_one():
    """Why colors are compared as well."""
    hashes = FrameHashes([frame_hash(scene(seed)[::3]) for seed in range(8)], BITS)
    bits_NF = hashes.hashes_NF["bits"]
    close = (np.bitwise_count(bits_NF[:, None] ^ bits_NF) <= BITS).mean(axis=2) >= 0.75
    assert close.sum() > len(close)
    for seed in range(8):
        assert hashes.near(frame_hash(scene(seed)[::3])) == [(seed, 1.0)]


def test_a_hash_is_like_itself_and_survives_being_written():
    frames = np.random.default_rng(0).integers(0, 255, (NUM_FRAMES, 40, 50, 3), dtype=np.uint8)
    made = frame_hash(frames)
    read = np.frombuffer(made.tobytes(), FRAME)
    assert np.array_equal(read, made) and FrameHashes([made], 0).near(read) == [(0, 1.0)]


def test_flat_frames_count_for_nothing():
    """Two films may both begin in black, and are not one for it; nor are two that are black to the end."""
    films = [scene(seed)[:NUM_FRAMES].copy() for seed in (0, 1)]
    black = np.zeros_like(films[0])
    for film in films:
        film[:5] = 0
    one, other, dark = map(frame_hash, (*films, black))
    assert FrameHashes([one, dark], 64).near(dark) == [] and FrameHashes([one], BITS).near(other) == []
    assert FrameHashes([one], BITS).near(one) == [(0, 1.0)]
