"""Decoded frames on disk, as the policy is shown them: who asks about a video again does not decode it again."""

import hashlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ktr.data import decode_worker
from ktr.data.video import DecodedVideo, VideoSettings
from ktr.types import MediaFile

log = logging.getLogger(__name__)

# A full cache is emptied so far that it need not be looked through again for a while.
KEPT_WHEN_FULL = 0.9
FORGOTTEN_S = 3600.0  # a part of a file that is as old is of a process that was killed
LOCK_S = 60.0
DECIDE = ("num_frames", "sampling", "min_frames", "backends")  # settings that frames depend on
PACKAGES = ("av", "decord", "torch", "torchvision", "transformers")


class FrameCache:
    """Videos by key, a file each below ``folder``, together at most ``max_gib``; the least recently used go first.

    Several processes and threads may share a folder. A file is there whole or not at all, and one that is damaged is
    dropped and told, so that what is read is what was kept, to the bit. A folder that cannot be written to is told once
    and then left alone: the frames are there without it. With ``max_gib=0`` nothing is kept.
    """

    def __init__(self, folder: Path | str, max_gib: float = 0.0) -> None:
        self.folder, self.max_bytes = Path(folder).expanduser(), int(max_gib * 2**30)
        self._can_write = True

    def key(self, file: MediaFile, settings: VideoSettings, shown: Mapping[str, Any]) -> str | None:
        """What the frames of a file depend on, as a name; ``shown`` is how they are resized.

        None where none are kept: the cache is off, the file cannot be looked at, or it is a folder of frames.
        """
        if self.max_bytes == 0:
            return None
        try:
            status = file.path.stat()
        except OSError:  # the reader says what is wrong with it
            return None
        if file.path.is_dir():
            return None
        parts = {
            "file": [os.path.abspath(file.path), status.st_size, status.st_mtime_ns],
            "clip": {name: repr(value) for name, value in asdict(file.clip).items()},
            "sampled": {name: getattr(settings, name) for name in DECIDE},
            "shown": shown,
            "packages": _versions(),
            "decoding": decode_worker.VERSION,
        }
        return hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()

    def get(self, key: str, path: Path) -> DecodedVideo | None:
        """The video that was kept under a key; None where there is none."""
        file = self._file(key)
        try:
            written = file.read_bytes()
        except OSError:
            return None
        try:
            video = _read(written, path)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s); it is dropped, and its video decoded again", file, error)
            with suppress(OSError):
                file.unlink()
            return None
        with suppress(OSError):
            os.utime(file)
        return video

    def put(self, key: str, video: DecodedVideo) -> None:
        """Keep a video, unless it alone is larger than the cache."""
        written = _written(video)
        if not self._can_write or len(written) > self.max_bytes:
            return
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", suffix=".partial", delete=False) as partial:
                try:
                    partial.write(written)
                    partial.close()
                    with FileLock(self.folder / ".lock", timeout=LOCK_S):
                        self._make_room(len(written))
                        os.replace(partial.name, file)
                except BaseException:
                    os.unlink(partial.name)
                    raise
        except OSError as error:
            self._can_write = False
            log.warning("%s: no frames are kept (%s); videos are decoded each time", self.folder, error)

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _make_room(self, num_bytes: int) -> None:
        """Drop what was not used for longest until ``num_bytes`` more fit. Their sum is kept in a file: looking at all
        files takes seconds where there are many."""
        total = self._counted()
        if total is None or total + num_bytes > self.max_bytes:
            files = sorted(self._files())
            total = sum(size for _, size, _ in files)
            bound = self.max_bytes if total + num_bytes <= self.max_bytes else KEPT_WHEN_FULL * self.max_bytes
            for _, size, path in files:
                if total == 0 or total + num_bytes <= bound:
                    break
                with suppress(FileNotFoundError):
                    os.unlink(path)
                total -= size
        (self.folder / ".bytes").write_text(str(total + num_bytes))

    def _counted(self) -> int | None:
        try:
            return int((self.folder / ".bytes").read_text())
        except (OSError, ValueError):
            return None

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """When each file was used last, its size, and its path."""
        for folder in sorted(self.folder.glob("??")):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        if not entry.name.endswith(".partial"):
                            yield status.st_mtime_ns, status.st_size, entry.path
                        elif time.time() - status.st_mtime > FORGOTTEN_S:
                            os.unlink(entry.path)


@cache
def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _written(video: DecodedVideo) -> bytes:
    frames_FHWC = np.ascontiguousarray(video.frames_FHWC)
    facts = {
        "frame_indices": list(map(int, video.frame_indices)),
        "fps": video.fps,
        "total_num_frames": video.total_num_frames,
        "seconds": list(map(float, video.seconds)),
        "is_constant_rate": video.is_constant_rate,
        "crc32": zlib.crc32(frames_FHWC.data),
    }
    return save({"frames": frames_FHWC}, {"video": json.dumps(facts)})


def _read(written: bytes, path: Path) -> DecodedVideo:
    """Raises SafetensorError, ValueError, KeyError or TypeError where it is damaged."""
    frames_FHWC = load(written)["frames"]
    length = int.from_bytes(written[:8], "little")
    facts = json.loads(json.loads(written[8 : 8 + length])["__metadata__"]["video"])
    if zlib.crc32(np.ascontiguousarray(frames_FHWC).data) != facts.pop("crc32"):
        raise ValueError("its frames are not those that were written")
    facts |= {"frame_indices": tuple(facts["frame_indices"]), "seconds": tuple(facts["seconds"])}
    return DecodedVideo(frames_FHWC, path=path, **facts)
