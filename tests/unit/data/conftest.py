"""Small real media files, written with PyAV."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import CorruptMedia
from ktr.types import MediaFile, Medium, PromptInputs, VideoQuestion

SIDE = 32


def gray_levels(num_frames: int) -> np.ndarray:
    """One gray level per frame, so that a frame can be recognised after lossy coding."""
    return np.linspace(20, 235, num_frames).round().astype(np.uint8)


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """Writes ``num_frames`` uniformly gray frames, brighter and brighter; an mp4 has its index first."""

    def write(path: Path, num_frames: int = 16, rate: int = 8, codec: str = "libx264") -> Path:
        options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=rate, options={"g": "4"})
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for level in gray_levels(num_frames):
                frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE, 3), level, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def settings() -> VideoSettings:
    return VideoSettings(num_frames=8, max_pixels=SIDE * SIDE, min_pixels=SIDE * SIDE)


@pytest.fixture(scope="session")
def reader(settings: VideoSettings) -> Iterator[VideoReader]:
    """One decoding process for all tests: every failure it survives is part of the law."""
    reader = VideoReader(settings)
    yield reader
    reader.close()


@pytest.fixture
def make_questions() -> Callable[[int], list[VideoQuestion]]:
    def make(count: int) -> list[VideoQuestion]:
        return [
            VideoQuestion(
                id=str(i),
                problem=f"what is {i} ?",
                problem_type="free-form",
                answer="x",
                media=(MediaFile(Path(f"{i}.mp4")),),
            )
            for i in range(count)
        ]

    return make


@pytest.fixture
def make_encode() -> Callable[..., Callable[[VideoQuestion], PromptInputs]]:
    """An encoder that puts the question's id into the prompt and finds the media of some ids corrupt."""

    def make(broken: frozenset[int] = frozenset()) -> Callable[[VideoQuestion], PromptInputs]:
        def encode(question: VideoQuestion) -> PromptInputs:
            if int(question.id) in broken:
                raise CorruptMedia(question.media[0].path, "it is broken on purpose")
            ids_P = torch.tensor([int(question.id)])
            return PromptInputs(question, ids_P, ids_P.expand(3, 1), torch.zeros(4, 2), (Medium("video", (1, 2, 2)),))

        return encode

    return make
