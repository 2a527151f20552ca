"""The frames of each container and codec are those asked for: decord decodes where it finds them, PyAV elsewhere."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ktr.data.decode_worker import uniform_frame_indices
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import CorruptMedia
from ktr.types import WHOLE, Clip

NUM_FRAMES = 60
BITS = 2 ** np.arange(8).reshape(2, 4)  # of a frame's number; each is a black or white square of the frame
SIDE = 16


def write(
    path: Path, codec: str, rate: int = 8, pixels: str = "yuv420p", movflags: str = "faststart", **options: str
) -> Path:
    """Frames that show their number, in groups of 12."""
    muxing = {"movflags": movflags} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "12"} | options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = (SIDE * length for length in BITS.shape)
        stream.pix_fmt = pixels
        for number in range(NUM_FRAMES):
            squares = np.kron(number & BITS > 0, np.ones((SIDE, SIDE))).astype(np.uint8) * 255
            frame = av.VideoFrame.from_ndarray(np.stack([squares] * 3, axis=-1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if codec == AV1["codec"] and hasattr(os, "sched_setscheduler"):
        # As root, this encoder makes the thread that calls it real-time, before which all else on a machine waits.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def numbers(video: DecodedVideo) -> tuple[int, ...]:
    """Which frames of the file these are."""
    middles_FHW = video.frames_FHWC[:, SIDE // 2 :: SIDE, SIDE // 2 :: SIDE, 1]
    return tuple(((middles_FHW > 127) * BITS).sum(axis=(1, 2)).tolist())


def x264(rule: str) -> dict[str, Any]:
    return {"codec": "libx264", "x264-params": f"keyint=12:min-keyint=12:scenecut=0:b-adapt=0:{rule}"}


def x265(rule: str) -> dict[str, Any]:
    return {"codec": "libx265", "x265-params": f"log-level=none:keyint=12:min-keyint=12:scenecut=0:b-adapt=0:{rule}"}


H264, HEVC, VP8, VP9 = x264("bframes=3"), x265("open-gop=0"), {"codec": "libvpx"}, {"codec": "libvpx-vp9"}
MJPEG, MPEG2, MPEG4 = {"codec": "mjpeg", "pixels": "yuvj420p"}, {"codec": "mpeg2video"}, {"codec": "mpeg4"}
AV1, WMV = {"codec": "libsvtav1"}, {"codec": "wmv2"}
OPEN_H264, OPEN_HEVC = x264("bframes=3:open-gop=1"), x265("bframes=3:open-gop=1")

BY_DECORD = [
    *(("mp4", H264), ("mov", H264), ("mkv", H264), ("mp4", x264("bframes=8:b-pyramid=normal:ref=4"))),
    *(("mp4", HEVC), ("mkv", HEVC), ("mp4", VP9), ("mkv", VP9), ("webm", VP9), ("webm", VP8)),
    *(("mov", MJPEG), ("mkv", MJPEG)),
]  # fmt: skip
BY_PYAV = [
    *(("mp4", OPEN_H264), ("mov", OPEN_H264), ("mkv", OPEN_H264), ("mp4", x264("bframes=0:intra-refresh=1"))),
    *(("mp4", OPEN_HEVC), ("mov", OPEN_HEVC), ("mkv", OPEN_HEVC), ("mp4", AV1), ("webm", AV1), ("mkv", AV1)),
    *((suffix, {"bf": "2"} | codec) for suffix in ("mp4", "mkv", "avi", "ts") for codec in (MPEG2, MPEG4)),
    *(("avi", H264), ("ts", H264), ("flv", H264), ("asf", H264), ("nut", H264), ("ts", OPEN_HEVC)),
    *(("mpg", {"bf": "2"} | MPEG2), ("vob", {"bf": "2"} | MPEG2), ("avi", MJPEG), ("asf", WMV)),
    ("mp4", H264 | {"movflags": "dash+delay_moov"}),  # in fragments
    ("mkv", H264 | {"rate": 2000}),  # two frames have one time there
]  # fmt: skip


def named(value: object) -> str | None:
    return " ".join(map(str, value.values())) if isinstance(value, dict) else None


@pytest.fixture(scope="module")
def read() -> Iterator[Callable[..., DecodedVideo]]:
    readers = {
        backends: VideoReader(VideoSettings(16, 1024, 1024, backends=backends))
        for backends in (("decord", "pyav"), ("decord",), ("pyav",))
    }
    yield lambda path, backends=("decord", "pyav"), clip=WHOLE: readers[backends].read(path, clip)
    for reader in readers.values():
        reader.close()


@pytest.mark.parametrize(("suffix", "options"), BY_DECORD, ids=named)
def test_where_decord_decodes_its_frames_are_those_asked_for(suffix, options, read, tmp_path):
    path = write(tmp_path / f"a.{suffix}", **options)
    video = read(path, ("decord",))
    assert video.total_num_frames == NUM_FRAMES and numbers(video) == video.frame_indices


@pytest.mark.parametrize(("suffix", "options"), BY_PYAV, ids=named)
def test_elsewhere_they_are_and_decord_alone_gives_none(suffix, options, read, tmp_path):
    path = write(tmp_path / f"a.{suffix}", **options)
    video = read(path)
    assert video.total_num_frames == NUM_FRAMES and numbers(video) == video.frame_indices
    with pytest.raises(CorruptMedia, match="decord"):
        read(path, ("decord",))


@pytest.mark.parametrize("options", [HEVC, x265("open-gop=0:bframes=0"), H264, x264("bframes=0")], ids=named)
def test_an_mp4_that_does_not_say_where_its_groups_begin(options, read, tmp_path):
    path = write(tmp_path / "a.mp4", **options)
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    assert numbers(video := read(path)) == video.frame_indices
    with pytest.raises(CorruptMedia, match="decord"):
        read(path, ("decord",))


def test_frames_that_only_others_refer_to_do_not_count(read, tmp_path):
    data = bytearray(write(tmp_path / "a.webm", "libvpx").read_bytes())
    with av.open(str(tmp_path / "a.webm")) as container:
        packets = [(packet.pos, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    for pos, packet in packets[3::5]:
        data[data.index(packet, pos)] &= ~16  # VP8's bit of frames that are shown
    (tmp_path / "a.webm").write_bytes(data)
    shown = [number for number in range(NUM_FRAMES) if number % 5 != 3]
    video = read(tmp_path / "a.webm")
    assert numbers(video) == tuple(shown[index] for index in uniform_frame_indices(len(shown), 16))


@pytest.mark.parametrize("backends", [("decord", "pyav"), ("pyav",)])
@pytest.mark.parametrize("clip", [WHOLE, Clip(1, 3)])
@pytest.mark.parametrize(("options", "first"), [(OPEN_HEVC, 9), (x264("bframes=0"), 20)], ids=named)
def test_a_file_that_begins_with_frames_that_cannot_be_decoded_is_corrupt(
    options, first, clip, backends, read, tmp_path
):
    path = tmp_path / "b.mkv"
    with av.open(str(write(tmp_path / "a.mkv", **options))) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][first:]:
            packet.stream = stream
            container.mux(packet)
    with pytest.raises(CorruptMedia, match=r"PyAV decodes \d+ of the \d+ frames"):
        read(path, backends, clip)
