"""Videos from disk: uniformly sampled frames, decoded in another process under a time limit.

The rule, which no option changes: a file gives the frames that were asked for, or an error of its own type. Nothing is
substituted, nothing hangs, and no frame is lost in silence.
"""

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from ktr import errors
from ktr.data import decode_worker
from ktr.data.frame_folder import frame_files, read_frames
from ktr.data.image import read_image
from ktr.data.media_file import check_media_file
from ktr.types import WHOLE, Clip

START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class VideoSettings:
    """How a video becomes frames and frames become pixels.

    ``num_frames`` is even (two frames make a temporal patch). A video with fewer frames gives all of them, the last one
    twice where their number is odd; with fewer than ``min_frames`` it is an error. ``min_pixels`` and ``max_pixels``
    bound the area of one frame after resizing. ``backends`` are tried in order. ``sampling`` is uniform over the whole
    video, by the ``index`` of frames or by ``time``, which differ where the frame rate varies;
    ``shuffle_granularity`` (temporal_patch or frame) is what shuffled views of the video permute.
    """

    num_frames: int
    max_pixels: int
    min_pixels: int
    decode_timeout_s: float = 30.0
    backends: Sequence[str] = ("decord", "pyav")
    shuffle_granularity: Literal["temporal_patch", "frame"] = "temporal_patch"
    min_frames: int = 2
    sampling: Literal["index", "time"] = "index"

    def __post_init__(self) -> None:
        object.__setattr__(self, "backends", tuple(self.backends))  # a config gives a list
        if self.num_frames < 2 or self.num_frames % 2:
            raise errors.ConfigError(f"num_frames must be even and at least 2, not {self.num_frames}")
        if not 1 <= self.min_frames <= self.num_frames:
            raise errors.ConfigError(
                f"min_frames must be from 1 to num_frames={self.num_frames}, not {self.min_frames}"
            )
        if not 0 < self.min_pixels <= self.max_pixels:
            raise errors.ConfigError(f"min_pixels={self.min_pixels} must be from 1 to max_pixels={self.max_pixels}")
        if self.decode_timeout_s <= 0:
            raise errors.ConfigError(f"decode_timeout_s must be positive, not {self.decode_timeout_s}")
        if not self.backends or set(self.backends) - set(decode_worker.BACKENDS):
            known = ", ".join(decode_worker.BACKENDS)
            raise errors.ConfigError(f"backends must be some of {known}, not {list(self.backends)}")


@dataclass(frozen=True)
class DecodedVideo:
    """The sampled frames of a video and where they came from.

    ``frames_FHWC`` are RGB, as a player shows them. ``frame_indices`` are their places among the frames that are shown,
    ``seconds`` their times; there are ``total_num_frames`` at ``fps`` frames a second, the mean where the rate varies.
    """

    frames_FHWC: UInt8[np.ndarray, "F H W 3"]
    frame_indices: tuple[int, ...]
    fps: float
    total_num_frames: int
    path: Path
    seconds: tuple[float, ...] = ()
    is_constant_rate: bool = True

    def seconds_per_temporal_patch(self, temporal_patch_size: int = 2) -> float:
        """Seconds of source video that one temporal patch of the *sampled* frames stands for.

        At a constant rate the share of all that is shown; else the mean time between the frames that were sampled.
        """
        if not self.is_constant_rate:
            num_steps = min(len(self.frame_indices), self.total_num_frames) - 1  # not to a last one that is repeated
            return temporal_patch_size * (self.seconds[-1] - self.seconds[0]) / num_steps
        sampled_fps = len(self.frame_indices) / self.total_num_frames * self.fps
        return temporal_patch_size / sampled_fps

    def seconds_of_temporal_patches(self, temporal_patch_size: int = 2) -> tuple[float, ...]:
        """The time of each temporal patch of the *sampled* frames: the mean of its first and its last frame's."""
        of_frames = [i / self.fps for i in self.frame_indices] if self.is_constant_rate else list(self.seconds)
        of_frames += of_frames[-1:] * (-len(of_frames) % temporal_patch_size)
        firsts, lasts = of_frames[::temporal_patch_size], of_frames[temporal_patch_size - 1 :: temporal_patch_size]
        return tuple((first + last) / 2 for first, last in zip(firsts, lasts, strict=True))


class VideoReader:
    """Reads videos through one decoding process, which is started at the first read and replaced when it hangs.

    Safe to call from several threads, which then take turns.
    """

    def __init__(self, settings: VideoSettings):
        self.settings = settings
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def read(self, path: Path, clip: Clip = WHOLE) -> DecodedVideo:
        """Decodes the sampled frames of the video at ``path``, or of a ``clip`` of it as if the file were cut there.

        Raises ``MissingMedia``, ``NotAVideo`` (no picture), ``TooShortMedia``, ``CorruptMedia`` (empty, truncated,
        damaged) or ``DecodeTimeout``.
        """
        if path.is_dir():
            return self._read_folder(path, clip)
        check_media_file(path)
        with self._lock:
            try:
                return self._decode(path, clip)
            except TimeoutError:
                self._kill()
                limit = self.settings.decode_timeout_s
                raise errors.DecodeTimeout(path, f"decoding did not end within {limit:g} s") from None
            except (EOFError, BrokenPipeError):
                raise self._crash(path) from None
            except errors.MediaError:
                raise
            except BaseException:
                self._kill()  # an interrupted read leaves half a reply in the pipe
                raise

    def read_image(self, path: Path) -> UInt8[np.ndarray, "H W 3"]:
        """Reads an image; see ``ktr.data.image.read_image``. It needs no decoding process."""
        return read_image(path)

    def close(self) -> None:
        """Ends the decoding process; a later read starts a new one."""
        with self._lock:
            self._kill()

    def __del__(self) -> None:
        self._kill()

    def _read_folder(self, path: Path, clip: Clip) -> DecodedVideo:
        """Of frames that lie there as pictures; they need no decoding process."""
        files = frame_files(path)
        seconds = np.arange(len(files)) / clip.fps
        try:
            shown = decode_worker.within(seconds, clip.start, clip.end)
            places = decode_worker.choose(seconds[shown], self.settings.num_frames, self.settings.min_frames, "index")
        except decode_worker.Rejected as error:
            raise REJECTIONS[error.kind](path, error.reason) from None
        frames_FHWC = read_frames(path, [files[shown.start + place] for place in places])
        return DecodedVideo(
            frames_FHWC, tuple(places), clip.fps, shown.stop - shown.start, path, tuple(seconds[places])
        )

    def _decode(self, path: Path, clip: Clip) -> DecodedVideo:
        if self._worker is not None and self._worker.poll() is not None:  # killed between two files, by neither of them
            self._kill()
        worker = self._start() if self._worker is None else self._worker
        settings = self.settings
        request = {
            "path": str(path),
            "num_frames": settings.num_frames,
            "min_frames": settings.min_frames,
            "sampling": settings.sampling,
            "backends": settings.backends,
            "start": clip.start,
            "end": clip.end,
            "timeout_s": settings.decode_timeout_s,
        }
        assert worker.stdin is not None
        decode_worker.write_message(worker.stdin, request)
        worker.stdin.flush()
        deadline = time.monotonic() + settings.decode_timeout_s
        header = receive_message(worker, deadline)
        if "error" in header:
            raise REJECTIONS[header["error"]](path, header["reason"])
        frames_FHWC = np.empty(header["shape"], dtype=np.uint8)
        receive_into(worker, frames_FHWC.reshape(-1).data, deadline)
        return DecodedVideo(
            frames_FHWC,
            tuple(header["indices"]),
            header["fps"],
            header["total"],
            path,
            tuple(header["seconds"]),
            header["is_constant_rate"],
        )

    def _start(self) -> subprocess.Popen[bytes]:
        # By path and without the script's own folder on sys.path (-P): it works from any working directory.
        command = [sys.executable, "-P", decode_worker.__file__]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        receive_message(self._worker, time.monotonic() + START_TIMEOUT_S)
        return self._worker

    def _kill(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            with suppress(subprocess.TimeoutExpired):
                self._worker.wait(timeout=5)
            for pipe in (self._worker.stdin, self._worker.stdout):
                with suppress(BrokenPipeError):  # closing flushes a request that a dead worker never took
                    pipe.close()  # pyright: ignore[reportOptionalMemberAccess]
            self._worker = None

    def _crash(self, path: Path) -> errors.KtrError:
        assert self._worker is not None
        code = self._worker.wait()
        self._kill()
        if code < 0:
            return errors.CorruptMedia(path, f"the decoder crashed with {signal.Signals(-code).name}")
        return errors.KtrError(f"the decoding process failed at {path} with exit code {code}; its traceback is above")


REJECTIONS: dict[str, type[errors.MediaError]] = {
    "CorruptMedia": errors.CorruptMedia,
    "NotAVideo": errors.NotAVideo,
    "TooShortMedia": errors.TooShortMedia,
}


def receive_message(worker: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
    prefix = bytearray(4)
    receive_into(worker, memoryview(prefix), deadline)
    body = bytearray(struct.unpack(">I", prefix)[0])
    receive_into(worker, memoryview(body), deadline)
    return json.loads(body)


def receive_into(worker: subprocess.Popen[bytes], buffer: memoryview, deadline: float) -> None:
    """Fills ``buffer`` from the worker. Raises TimeoutError at the deadline and EOFError where the worker died."""
    assert worker.stdout is not None
    pipe = worker.stdout.fileno()
    while buffer:
        # The pipe is read without Python's buffering, because select sees only what the kernel holds.
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        received = os.readv(pipe, [buffer])
        if received == 0:
            raise EOFError
        buffer = buffer[received:]
