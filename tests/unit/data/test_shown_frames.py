"""The frames that are learned from are those that a player shows, whichever backend decodes them."""

import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import CorruptMedia, NotAVideo

TICKS = Fraction(1, 1000)
WIDTH, HEIGHT = 64, 48
TURNS = {  # the matrix of a file (a, b, c, d), and what it makes of a picture
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, -1, 1, 0): lambda picture: np.rot90(picture, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda picture: picture.swapaxes(0, 1),
}


def write(path: Path, ticks: Sequence[int], pixel_aspect: Fraction | None = None, b_frames: int = 0) -> Path:
    """Frames at given times in ms: red above left, green below right, above right a gray that tells their number."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "4", "bf": str(b_frames)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = TICKS
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for index, tick in enumerate(ticks):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            pixels[: HEIGHT // 2, : WIDTH // 2] = (200, 30, 30)
            pixels[HEIGHT // 2 :, WIDTH // 2 :] = (30, 200, 30)
            pixels[: HEIGHT // 2, WIDTH // 2 :] = 8 * index
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = tick, TICKS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The file with another matrix in its track header (version 0)."""
    data, place = bytearray(path.read_bytes()), path.read_bytes().index(b"tkhd") + 44
    a, b, c, d = (65536 * number for number in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def trimmed(path: Path, start_s: float = 0.0, length_s: float | None = None) -> Path:
    """The file with another start, and length, in its edit list; its media count 16,000 a second and edits 1,000."""
    data, place = bytearray(path.read_bytes()), path.read_bytes().index(b"elst") + 12
    if length_s is not None:
        data[place : place + 4] = struct.pack(">I", round(1000 * length_s))
    data[place + 4 : place + 8] = struct.pack(">i", round(16000 * start_s))
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def read() -> Iterator[Callable[..., DecodedVideo]]:
    readers: dict[tuple[tuple[str, ...], str], VideoReader] = {}

    def read(path: Path, backends: tuple[str, ...] = ("decord", "pyav"), sampling: str = "index") -> DecodedVideo:
        settings = VideoSettings(8, 1024, 1024, backends=backends, sampling=sampling)  # pyright: ignore
        return readers.setdefault((backends, sampling), VideoReader(settings)).read(path)

    yield read
    for reader in readers.values():
        reader.close()


def numbers(video: DecodedVideo) -> list[int]:
    """Which frames of the file these are, by their gray."""
    return [round(float(level) / 8) for level in video.frames_FHWC[:, 4:12, -12:-4].mean(axis=(1, 2, 3))]


EVEN = range(0, 2000, 100)


@pytest.mark.parametrize("matrix", TURNS)
def test_a_turned_video_is_seen_turned_and_by_no_backend_as_it_lies(matrix, read, tmp_path):
    file = write(tmp_path / "a.mp4", EVEN)
    lying = read(file)
    path = turned(Path(shutil.copy(file, tmp_path / "b.mp4")), matrix)  # the encoder's bytes are not always the same
    shown = read(path)
    expected = np.stack([TURNS[matrix](picture) for picture in lying.frames_FHWC])
    np.testing.assert_array_equal(shown.frames_FHWC, expected)
    np.testing.assert_array_equal(read(path, ("pyav",)).frames_FHWC, expected)
    with pytest.raises(CorruptMedia, match="add pyav to video.backends"):
        read(path, ("decord",))


@pytest.mark.parametrize(("aspect", "width"), [("2", 128), ("8/9", 57), ("1/2", 32), ("1", 64)])
def test_pixels_that_are_not_square_are_made_so(aspect, width, read, tmp_path):
    path = write(tmp_path / "a.mp4", EVEN, pixel_aspect=Fraction(aspect))
    by_decord, by_pyav = read(path, ("decord",)), read(path, ("pyav",))
    assert by_decord.frames_FHWC.shape == (8, HEIGHT, width, 3)
    np.testing.assert_array_equal(by_decord.frames_FHWC, by_pyav.frames_FHWC)
    assert numbers(by_pyav) == list(by_pyav.frame_indices)


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_outside_the_edit_list_are_not_seen(b_frames, read, tmp_path):
    offset = 0.2 if b_frames else 0.0  # the muxer's own edit list takes the delay of frames out of order away
    path = trimmed(write(tmp_path / "a.mp4", EVEN, b_frames=b_frames), start_s=0.8 + offset, length_s=0.9)
    video = read(path)
    assert video.total_num_frames == 9 and numbers(video) == [8, 9, 10, 11, 13, 14, 15, 16]
    assert video.seconds[0] == 0 and video.seconds[-1] == pytest.approx(0.8)
    np.testing.assert_array_equal(video.frames_FHWC, read(path, ("pyav",)).frames_FHWC)


def test_a_start_offset_moves_no_frame(read, tmp_path):
    plain = read(write(tmp_path / "a.mp4", EVEN))
    late = read(write(tmp_path / "b.mp4", [500 + tick for tick in EVEN]))
    assert numbers(late) == numbers(plain) and late.seconds[0] == 0


# Ten frames in the first second, then one a second, then ten in the last.
UNEVEN = [*range(0, 1000, 100), *range(1000, 11000, 1000), *range(11000, 12000, 100)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_frames_of_a_varying_rate_are_chosen_by_index_or_by_time_and_have_their_real_times(
    suffix, backend, read, tmp_path
):
    path = write(tmp_path / f"a.{suffix}", UNEVEN)
    by_index, by_time = read(path, (backend,)), read(path, (backend,), "time")
    assert by_index.frame_indices == (0, 4, 8, 12, 17, 21, 25, 29)
    times = np.linspace(0, 11.9, 8)
    assert by_time.frame_indices == tuple(max(i for i, t in enumerate(UNEVEN) if t / 1000 <= time) for time in times)
    for video in (by_index, by_time):
        assert video.seconds == pytest.approx([UNEVEN[index] / 1000 for index in video.frame_indices], abs=1e-3)
        assert video.seconds_per_temporal_patch() == pytest.approx(2 * 11.9 / 7, abs=1e-3)
    assert numbers(by_time) == list(by_time.frame_indices)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_at_a_constant_rate_the_time_between_patches_is_what_it_was(suffix, read, tmp_path):
    for sampling in ("index", "time"):
        video = read(write(tmp_path / f"a.{suffix}", EVEN), sampling=sampling)
        assert video.is_constant_rate and video.seconds_per_temporal_patch() == 2 / (8 / 20 * 10.0)


def test_of_an_odd_number_of_uneven_frames_the_repeated_one_takes_no_time(read, tmp_path):
    video = read(write(tmp_path / "a.mp4", [0, 100, 200, 3000, 3100]))
    assert video.frame_indices == (0, 1, 2, 3, 4, 4)
    assert video.seconds_per_temporal_patch() == pytest.approx(2 * 3.1 / 4)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "avif"])
def test_a_picture_given_as_a_video_is_called_one(suffix, read, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.mp4")
    with pytest.raises(NotAVideo, match=r"a\.mp4: it is a picture \("):
        read(tmp_path / "a.mp4")


def test_a_list_of_other_files_is_no_video(read, tmp_path):
    write(tmp_path / "secret.mp4", EVEN)
    for text in ("ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n"):
        (tmp_path / "a.mp4").write_text(text)
        with pytest.raises((NotAVideo, CorruptMedia)):
            read(tmp_path / "a.mp4")
