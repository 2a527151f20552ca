"""A video gives the frames asked for, or an error of its own type; never a substitute, a hang or fewer frames."""

import os
import signal
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from ktr.data import decode_worker
from ktr.data.decode_worker import Rejected, check_complete, uniform_frame_indices
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import ConfigError, CorruptMedia, DecodeTimeout, MediaError, MissingMedia, NotAVideo, TooShortMedia


def test_fewer_frames_than_asked_are_rejected():
    with pytest.raises(Rejected, match="3 frames where 4"):
        check_complete(np.zeros((3, 2, 2, 3), np.uint8), [0, 1, 2, 3], "decord")


def levels(video: DecodedVideo) -> np.ndarray:
    return video.frames_FHWC.mean(axis=(1, 2, 3))


def test_indices_are_even_in_number_and_include_both_ends():
    assert uniform_frame_indices(16, 16) == list(range(16))
    assert uniform_frame_indices(300, 4) == [0, 100, 199, 299]
    assert uniform_frame_indices(5, 8) == [0, 1, 2, 3, 4, 4]
    assert uniform_frame_indices(1, 8) == [0, 0]
    for total in range(1, 40):
        indices = uniform_frame_indices(total, 8)
        assert len(indices) % 2 == 0 and indices == sorted(indices)
        assert indices[0] == 0 and indices[-1] == total - 1


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_frames_are_those_of_their_indices_with_the_source_s_metadata(backend, write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=30, rate=10)
    reader = VideoReader(VideoSettings(8, 1024, 1024, backends=(backend,)))
    video = reader.read(path)
    reader.close()
    assert video.frames_FHWC.shape == (8, 32, 32, 3) and video.frames_FHWC.dtype == np.uint8
    assert video.frame_indices == tuple(uniform_frame_indices(30, 8))
    assert (video.total_num_frames, video.fps, video.path) == (30, 10.0, path)
    written = np.linspace(20, 235, 30).round()[list(video.frame_indices)]
    np.testing.assert_allclose(levels(video), written, atol=3)


def test_the_backends_give_the_same_pixels(write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=13)
    readers = [VideoReader(VideoSettings(8, 1024, 1024, backends=(name,))) for name in ("decord", "pyav")]
    decord_video, pyav_video = (reader.read(path) for reader in readers)
    for reader in readers:
        reader.close()
    np.testing.assert_array_equal(decord_video.frames_FHWC, pyav_video.frames_FHWC)
    assert decord_video.frame_indices == pyav_video.frame_indices


def test_time_between_patches_is_that_of_the_sampled_frames(reader, write_video, tmp_path):
    video = reader.read(write_video(tmp_path / "a.mp4", num_frames=32, rate=8))
    # 8 frames for 4 seconds: a patch of two frames stands for one second, not for the source's quarter of a second.
    assert video.seconds_per_temporal_patch() == pytest.approx(1.0)
    assert video.seconds_per_temporal_patch(temporal_patch_size=4) == pytest.approx(2.0)


def test_a_short_video_gives_all_its_frames_with_the_last_repeated(reader, write_video, tmp_path):
    video = reader.read(write_video(tmp_path / "a.mp4", num_frames=5))
    assert video.frame_indices == (0, 1, 2, 3, 4, 4)
    np.testing.assert_array_equal(video.frames_FHWC[4], video.frames_FHWC[5])


@pytest.mark.parametrize("backends", [("decord", "pyav"), ("pyav",), ("decord",)])
def test_a_video_cut_between_two_frames_is_corrupt_with_every_backend(backends, write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", num_frames=120)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: packets[80].pos])
    with av.open(str(path)) as container:  # it opens and reads without a complaint: only the number of frames is wrong
        assert sum(1 for _ in container.decode(video=0)) == 80
    reader = VideoReader(VideoSettings(8, 1024, 1024, backends=backends))
    with pytest.raises(CorruptMedia, match=r"a\.mp4.*cut off"):
        reader.read(path)
    reader.close()


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")])
def test_other_containers_read_whole_and_are_corrupt_when_cut_off(suffix, codec, reader, write_video, tmp_path):
    path = write_video(tmp_path / f"a.{suffix}", num_frames=40, codec=codec)
    assert reader.read(path).frame_indices == tuple(uniform_frame_indices(40, 8))
    with pytest.raises(CorruptMedia):
        reader.read(truncate(path, 0.6))


def truncate(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def make_missing(path: Path, write_video) -> None:
    pass


def make_folder(path: Path, write_video) -> None:
    path.mkdir()


def make_empty(path: Path, write_video) -> None:
    path.write_bytes(b"")


def make_garbage(path: Path, write_video) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def make_text(path: Path, write_video) -> None:
    path.write_text("<html>404 not found</html>" * 100)


def make_headless(path: Path, write_video) -> None:
    truncate(write_video(path), 0.1)


def make_holed(path: Path, write_video) -> None:
    whole = bytearray(write_video(path, num_frames=120).read_bytes())
    middle = len(whole) * 3 // 4
    whole[middle : middle + 400] = bytes(400)
    path.write_bytes(whole)


def make_single_frame(path: Path, write_video) -> None:
    write_video(path, num_frames=1)


def make_audio(path: Path, write_video) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_wave(path: Path, write_video) -> None:
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (make_missing, MissingMedia),
        (make_folder, CorruptMedia),
        (make_empty, CorruptMedia),
        (make_garbage, CorruptMedia),
        (make_text, CorruptMedia),
        (make_headless, CorruptMedia),
        (make_holed, CorruptMedia),
        (make_single_frame, TooShortMedia),
        (make_audio, NotAVideo),
        (make_wave, NotAVideo),
    ],
)
def test_each_bad_file_has_its_own_error_and_the_next_file_still_reads(make, error, reader, write_video, tmp_path):
    bad, good = tmp_path / "bad.mp4", write_video(tmp_path / "good.mp4")
    make(bad, write_video)
    reader.read(good)
    worker = reader._worker
    with pytest.raises(MediaError) as caught:
        reader.read(bad)
    assert type(caught.value) is error
    assert caught.value.path == bad and str(bad) in str(caught.value)
    assert len(reader.read(good).frame_indices) == 8
    assert reader._worker is worker, "a bad file must not cost the decoding process"


def test_a_file_whose_decoding_hangs_times_out_and_the_next_file_still_reads(write_video, tmp_path):
    good = write_video(tmp_path / "good.mp4")
    reader = VideoReader(VideoSettings(8, 1024, 1024, decode_timeout_s=0.3))
    reader.settings = VideoSettings(8, 1024, 1024, decode_timeout_s=30.0)
    reader.read(good)
    stuck = reader._worker
    assert stuck is not None
    os.kill(stuck.pid, signal.SIGSTOP)  # from now on it answers as one in an endless loop does
    hangs = write_video(tmp_path / "hangs.mp4")
    reader.settings = VideoSettings(8, 1024, 1024, decode_timeout_s=0.3)
    with pytest.raises(DecodeTimeout, match=r"hangs\.mp4.*0\.3 s"):
        reader.read(hangs)
    assert stuck.returncode is not None, "the stuck process must be gone"
    reader.settings = VideoSettings(8, 1024, 1024, decode_timeout_s=30.0)
    assert len(reader.read(good).frame_indices) == 8
    reader.close()


def test_a_decoder_that_crashes_is_a_corrupt_file_and_the_next_file_still_reads(write_video, tmp_path, monkeypatch):
    good = write_video(tmp_path / "good.mp4")
    reader = VideoReader(VideoSettings(8, 1024, 1024))
    reader.read(good)
    write_message = decode_worker.write_message

    def then_killed(stream, message):
        write_message(stream, message)
        kill_worker(reader)

    with monkeypatch.context() as patch, pytest.raises(CorruptMedia, match="SIGKILL"):
        patch.setattr(decode_worker, "write_message", then_killed)
        reader.read(good)
    assert len(reader.read(good).frame_indices) == 8
    reader.close()


def test_a_decoder_that_was_killed_between_two_files_costs_neither(write_video, tmp_path):
    good = write_video(tmp_path / "good.mp4")
    reader = VideoReader(VideoSettings(8, 1024, 1024))
    reader.read(good)
    kill_worker(reader)  # as by a machine that runs out of memory
    assert len(reader.read(good).frame_indices) == 8
    reader.close()


def kill_worker(reader: VideoReader) -> None:
    assert reader._worker is not None
    reader._worker.kill()
    reader._worker.wait()


def test_the_decoding_process_ends_with_its_reader(write_video, tmp_path):
    reader = VideoReader(VideoSettings(8, 1024, 1024))
    reader.read(write_video(tmp_path / "good.mp4"))
    worker = reader._worker
    assert isinstance(worker, subprocess.Popen) and worker.stdin is not None
    worker.stdin.close()  # what the death of this process would do
    assert worker.wait(timeout=90) == 0
    reader.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_frames": 7},
        {"num_frames": 0},
        {"min_frames": 0},
        {"min_frames": 9},
        {"min_pixels": 2000},
        {"decode_timeout_s": 0.0},
        {"backends": ()},
        {"backends": ("opencv",)},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VideoSettings(**{"num_frames": 8, "max_pixels": 1024, "min_pixels": 1024} | wrong)
