"""What the cache gives back is what it was given, to the bit; it stays within its bound and outlives any damage."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ktr.data import decode_worker
from ktr.data.frame_cache import FrameCache
from ktr.data.video import DecodedVideo, VideoSettings
from ktr.types import Clip, MediaFile

SETTINGS = VideoSettings(num_frames=8, max_pixels=1024, min_pixels=1024)
SIZE = 16 * 2**10  # of the frames of one video
FILE = SIZE + 512  # of one file, at most


def video(number: int, path: Path = Path("v.mp4")) -> DecodedVideo:
    frames_FHWC = np.random.default_rng(number).integers(0, 255, (SIZE // 1024, 16, 21, 3), dtype=np.uint8)
    return DecodedVideo(frames_FHWC, (0, 3), 29.97 + number, 7, path, (0.0, 1 / 3), False)


def key(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., FrameCache]:
    return lambda files=100.0: FrameCache(tmp_path / "frames", files * FILE / 2**30)


def held(cache: FrameCache, count: int = 20) -> set[int]:
    return {number for number in range(count) if cache._file(key(number)).exists()}


def used(cache: FrameCache, number: int, second: int) -> None:
    """Say when a file was used last, which the clock of a disk may be too coarse for."""
    os.utime(cache._file(key(number)), (second, second))


def test_a_video_is_given_back_with_all_that_is_known_of_it(make):
    kept = video(1)
    make().put(key(1), kept)
    given = make().get(key(1), Path("elsewhere.mp4"))
    assert given is not None and given.frames_FHWC.dtype == np.uint8
    assert np.array_equal(given.frames_FHWC, kept.frames_FHWC)
    for name in ("frame_indices", "fps", "total_num_frames", "seconds", "is_constant_rate"):
        assert getattr(given, name) == getattr(kept, name)
    assert given.path == Path("elsewhere.mp4") and make().get(key(2), kept.path) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:4], lambda data: data[:100], lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b"\xff" * 8 + data[8:],
        lambda data: data.replace(b'"video"', b'"vidoe"'), lambda data: data.replace(b"29.", b"xx."),
        lambda data: data + b"more", lambda data: os.urandom(len(data)),
    ],
)  # fmt: skip
def test_a_damaged_file_is_dropped_and_told(make, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture):
    cache = make()
    cache.put(key(0), video(0))
    file = cache._file(key(0))
    file.write_bytes(damage(file.read_bytes()))
    assert cache.get(key(0), Path("v.mp4")) is None and not file.exists()
    assert "is damaged" in caplog.text and str(file) in caplog.text
    cache.put(key(0), video(0))
    assert cache.get(key(0), Path("v.mp4")) is not None


def test_the_bound_holds_and_those_used_least_recently_go(make):
    cache = make(4)
    for number in range(4):
        cache.put(key(number), video(number))
        used(cache, number, 100 + number)
    assert held(cache) == {0, 1, 2, 3}
    cache.get(key(0), Path("v.mp4"))  # as new as now
    cache.put(key(4), video(4))
    assert held(cache) == {0, 3, 4}  # to nine tenths, so that the next one finds room
    for number in range(5, 20):
        cache.put(key(number), video(number))
        assert sum(file.stat().st_size for file in cache.folder.rglob("*.safetensors")) <= cache.max_bytes


def test_two_caches_of_one_folder_keep_one_bound(make):
    one, other = make(6), make(6)
    for number in range(20):
        (one, other)[number % 2].put(key(number), video(number))
        assert sum(file.stat().st_size for file in one.folder.rglob("*.safetensors")) <= one.max_bytes
    assert held(one) == held(other) and 19 in held(one)


def test_a_lost_count_is_made_anew(make):
    cache = make(3)
    for number in range(3):
        cache.put(key(number), video(number))
    for lost in (lambda file: file.write_text("many"), lambda file: file.unlink()):
        lost(cache.folder / ".bytes")
        cache.put(key(9), video(9))
        assert sum(file.stat().st_size for file in cache.folder.rglob("*.safetensors")) <= cache.max_bytes


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out(make):
    make(2).put(key(0), video(0))
    cache = make(0.5)
    cache.put(key(1), video(1))
    assert held(cache) == {0}


def test_parts_of_files_of_a_killed_process_go_and_those_being_written_stay(make):
    cache = make(1)
    cache.put(key(0), video(0))
    old, new = cache.folder / "00" / ".a.partial", cache.folder / "00" / ".b.partial"
    for file in (old, new):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    cache.put(key(1), video(1))
    assert not old.exists() and new.exists() and held(cache) == {1}


def test_many_threads_of_two_caches_lose_nothing_and_read_nothing_torn(make):
    caches = [make(7), make(7)]

    def work(number: int) -> bool:
        cache, wanted = caches[number % 2], video(number % 10)
        given = cache.get(key(number % 10), wanted.path)
        if given is None:
            cache.put(key(number % 10), wanted)
        return given is None or np.array_equal(given.frames_FHWC, wanted.frames_FHWC)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(300)))
    assert not list(caches[0].folder.rglob(".*.partial"))


def test_a_folder_that_cannot_be_written_to_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "frames").write_text("a file")
    cache = FrameCache(tmp_path / "frames", 1.0)
    for number in range(3):
        cache.put(key(number), video(number))
        assert cache.get(key(number), Path("v.mp4")) is None
    assert caplog.text.count("no frames are kept") == 1


def test_the_key_is_all_that_frames_depend_on(tmp_path: Path, make):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"abc")
    file, shown, cache = MediaFile(path), {"size": 1}, make()
    os.utime(path, (5, 5))

    def keys() -> list[str | None]:
        return [
            cache.key(file, SETTINGS, shown),
            cache.key(replace(file, clip=Clip(start=1)), SETTINGS, shown),
            cache.key(replace(file, clip=Clip(end=9)), SETTINGS, shown),
            cache.key(file, SETTINGS, {"size": 2}),
            *(
                cache.key(file, replace(SETTINGS, **change), shown)
                for change in ({"num_frames": 4}, {"sampling": "time"}, {"min_frames": 4}, {"backends": ["pyav"]})
            ),
        ]

    first = keys()
    assert None not in first and len(set(first)) == len(first) and keys() == first
    slow = replace(SETTINGS, decode_timeout_s=9.0, shuffle_granularity="frame")
    assert cache.key(file, slow, shown) == first[0]
    os.utime(path, (6, 6))
    touched = keys()
    path.write_bytes(b"abcd")
    os.utime(path, (6, 6))
    assert len({*first, *touched, *keys()}) == 3 * len(first)


def test_frames_that_were_decoded_otherwise_do_not_come_back(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "v.mp4").write_bytes(b"abc")
    file, cache = MediaFile(tmp_path / "v.mp4"), make()
    before = cache.key(file, SETTINGS, {})
    monkeypatch.setattr(decode_worker, "VERSION", decode_worker.VERSION + 1)
    assert cache.key(file, SETTINGS, {}) != before


def test_nothing_is_kept_of_a_folder_of_a_file_that_is_not_there_or_without_room(tmp_path: Path, make):
    (tmp_path / "v.mp4").write_bytes(b"x")
    assert make().key(MediaFile(tmp_path), SETTINGS, {}) is None
    assert make().key(MediaFile(tmp_path / "none.mp4"), SETTINGS, {}) is None
    assert FrameCache(tmp_path).key(MediaFile(tmp_path / "v.mp4"), SETTINGS, {}) is None
