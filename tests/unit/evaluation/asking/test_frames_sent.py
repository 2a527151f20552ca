"""Media as they are sent: the pixels that a policy sees, in the places that it sees them, at the times it is told."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.video_utils import VideoMetadata

from ktr.data.prompts import PromptTemplate
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.evaluation.asking.frames_sent import MediaSender, sampled_of
from ktr.evaluation.rules.outcome import Outcome
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.shapes.video_file import write_video
from ktr.types import MediaFile, VideoQuestion
from tests.unit.evaluation.asking.fake_endpoint import (
    Serve,
    answered,
    ask,
    says,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    generator = np.random.default_rng(0)
    for name, (num_frames, height, width) in {"a": (24, 90, 130), "b": (5, 56, 56), "c": (40, 200, 64)}.items():
        write_video(
            generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8), folder / f"{name}.mp4", 3
        )
    Image.fromarray(generator.integers(0, 256, (77, 140, 3), dtype=np.uint8)).save(folder / "d.png")
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


def pixels_of(part: dict[str, Any]) -> np.ndarray:
    """The frames of a part of a message, as whoever is sent it decodes them."""
    head, *files = part[part["type"]]["url"].split(",")
    assert head in ("data:image/png;base64", "data:video/jpeg;base64")
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(file, validate=True)))) for file in files])


@pytest.mark.parametrize("frames_as", ["images", "video"])
@pytest.mark.parametrize("bounds", [(3136, 3136), (784, 12544)])
def test_what_is_sent_decodes_to_the_pixels_that_the_policy_sees(
    frames_as: Any, bounds: tuple[int, int], folder: Path, policy_folder: Path
):
    settings = VideoSettings(num_frames=8, min_pixels=bounds[0], max_pixels=bounds[1])
    reader = VideoReader(settings)
    encoder = PromptEncoder(policy_folder, PromptTemplate("", {}), reader, max_prompt_tokens=960)
    media = [MediaFile(folder / "d.png", "image"), *(MediaFile(folder / f"{name}.mp4") for name in "abc")]
    sender = MediaSender(reader, 28, frames_as).apart(8)
    for file in media:
        seen = encoder.frames(encoder.encode(VideoQuestion("0", "color ?", "free-form", "red", (file,))))[0]
        sent = sender.send(file)
        shown = np.concatenate([pixels_of(part) for part in sent.parts])
        assert shown.dtype == np.uint8 and np.array_equal(shown, seen)
        assert sent.num_frames == len(seen) and len(sent.parts) == (1 if frames_as == "video" else len(seen))


def test_media_stand_in_the_text_where_the_policy_has_them_and_a_file_that_is_broken_is_told(
    serve: Serve, folder: Path
):
    server, answers = serve(lambda _: says("A"))
    two = replace(
        ask(0, MediaFile(folder / "a.mp4"), MediaFile(folder / "d.png", "image")).question,
        problem="In <video> is <image>?",
    )
    broken = replace(ask(1).question, media=(MediaFile(folder / "broken.mp4"),))
    special = replace(ask(2).question, problem="<|im_end|> ?")
    found = answered(answers, [replace(ask(0), question=each) for each in (two, broken, special)])
    kinds = [part["type"] for part in server.requests[0]["messages"][0]["content"]]
    assert kinds == ["text", *["image_url"] * 8, "text", "image_url", "text"]
    assert found["0"].num_frames == (8, 1) and found["1"].outcome is Outcome.MEDIA_MISSING
    assert "special token <|im_end|>" in found["2"].reason and len(server.requests) == 1


def test_vllm_is_told_when_frames_were_and_of_one_rate(serve: Serve, folder: Path):
    server, answers = serve(lambda _: says("A"), frames_as="video")
    mixed = ask(1, MediaFile(folder / "a.mp4"), MediaFile(folder / "c.mp4"))
    found = answered(answers, [ask(0, MediaFile(folder / "a.mp4")), mixed])
    (request,) = server.requests
    sampled = request["media_io_kwargs"]["video"]
    assert sampled["total_num_frames"] == 24 and len(sampled["frames_indices"]) == 8 and sampled["num_frames"] == -1
    assert found["1"].outcome is Outcome.FAILED and "frames_as=images" in found["1"].reason


@pytest.mark.parametrize(
    ("indices", "fps", "total", "seconds", "is_constant"),
    [
        ((0, 7, 14, 21), 29.97, 24, (), True),
        ((0, 1, 2, 2), 3.0, 3, (), True),
        ((0, 5, 9, 20), 12.0, 21, (0.0, 0.5, 0.8, 2.0), False),
    ],
)
def test_vllm_computes_the_time_between_temporal_patches_that_the_encoder_does(
    indices: tuple[int, ...], fps: float, total: int, seconds: tuple[float, ...], is_constant: bool
):
    frames = np.zeros((len(indices), 28, 28, 3), dtype=np.uint8)
    video = DecodedVideo(frames, indices, fps, total, Path("v"), seconds, is_constant)
    told = sampled_of(video)
    places = told.get("frames_indices", list(range(len(indices))))
    total = told.get("total_num_frames", len(indices))
    metadata = VideoMetadata(total, told["fps"], frames_indices=places)
    assert len(places) == len(indices) <= total  # else it is refused
    assert 2 / metadata.sampled_fps == pytest.approx(video.seconds_per_temporal_patch(2), rel=1e-15)
