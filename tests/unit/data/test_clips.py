"""A clip of a video is what a file cut there would be; a folder of frames is a video."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktr.data.decode_worker import within
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import CorruptMedia, TooShortMedia
from ktr.types import Clip
from tests.unit.data.conftest import gray_levels

SECONDS = np.arange(80) / 8


@pytest.mark.parametrize(
    ("clip", "shown"),
    [
        (Clip(), (0, 80)), (Clip(start=2), (16, 80)), (Clip(end=3), (0, 25)), (Clip(2, 3), (16, 25)),
        (Clip(2.05, 3), (16, 25)),  # what is on show at the start counts
        (Clip(9, 99), (72, 80)), (Clip(4, 4), (32, 33)), (Clip(10.5, 12), (79, 80)),
    ],
)  # fmt: skip
def test_a_clip_is_what_is_on_show_from_start_to_end(clip: Clip, shown: tuple[int, int]):
    found = within(SECONDS, clip.start, clip.end)
    assert (found.start, found.stop) == shown


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_frames_of_a_clip_are_those_of_a_file_that_is_cut_there(backend: str, tmp_path: Path, write_video):
    whole = write_video(tmp_path / "whole.mp4", num_frames=80, rate=8)
    settings = VideoSettings(num_frames=8, max_pixels=1024, min_pixels=1024, backends=[backend])
    clip = VideoReader(settings).read(whole, Clip(2.0, 4.0))
    assert clip.total_num_frames == 17 and clip.frame_indices == (0, 2, 5, 7, 9, 11, 14, 16)
    levels = gray_levels(80)[[16 + place for place in clip.frame_indices]]
    assert np.abs(clip.frames_FHWC.mean((1, 2, 3)) - levels).max() < 3
    assert clip.seconds[0] == 0 and clip.seconds[-1] == 2.0
    assert clip.seconds_per_temporal_patch() == pytest.approx(2 / (8 / 17 * 8))


def test_a_clip_beyond_the_end_says_where_the_video_ends(tmp_path: Path, write_video, reader: VideoReader):
    path = write_video(tmp_path / "a.mp4", num_frames=16, rate=8)
    with pytest.raises(TooShortMedia, match="no frame from second 9 to 12: it ends at 1.875"):
        reader.read(path, Clip(9.0, 12.0))
    assert len(reader.read(path).frames_FHWC) == 8


def test_a_folder_of_frames_is_a_video_in_the_order_of_its_numbers(tmp_path: Path, reader: VideoReader):
    for number in range(1, 31):
        Image.new("RGB", (32, 32), (number * 8,) * 3).save(tmp_path / f"²{number}.png")
        (tmp_path / f"._²{number}.png").write_text("what macOS says of it")
    (tmp_path / "notes.txt").write_text("")
    video = reader.read(tmp_path, Clip(fps=3.0))
    assert video.frames_FHWC[:, 0, 0, 0].tolist() == [8 * (place + 1) for place in video.frame_indices]
    assert video.frame_indices[0] == 0 and video.frame_indices[-1] == 29 and video.fps == 3.0
    clip = reader.read(tmp_path, Clip(2.0, 4.0, fps=3.0))
    assert clip.frames_FHWC[:, 0, 0, 0].tolist() == [8 * (7 + place) for place in clip.frame_indices]
    assert clip.total_num_frames == 7 and clip.seconds_per_temporal_patch() == pytest.approx(
        2 / (len(clip.frame_indices) / 7 * 3)
    )


def test_frames_of_several_sizes_are_refused(tmp_path: Path, reader: VideoReader):
    for number in range(4):
        Image.new("RGB", (32, 32 + number)).save(tmp_path / f"{number}.jpg")
    with pytest.raises(CorruptMedia, match="several sizes"):
        reader.read(tmp_path)
