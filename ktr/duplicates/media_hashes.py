"""Hashes of media files: of their content where another of that size is looked for, and of how they look."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ktr.console.progress_line import track
from ktr.data import decode_worker
from ktr.data.image import read_image
from ktr.data.video import VideoReader, VideoSettings
from ktr.duplicates.frame_hash import FRAME, FrameHash, frame_hash
from ktr.duplicates.hash_store import HashStore, state_of
from ktr.errors import DecodeTimeout, MediaError
from ktr.types import MediaFile

NUM_FRAMES = 8
# By time, so that a copy with another frame rate gives the same moments.
SETTINGS = VideoSettings(NUM_FRAMES, max_pixels=1, min_pixels=1, decode_timeout_s=60, min_frames=1, sampling="time")
# Kinds of hashes in the store; another number when one is made otherwise.
CONTENT, FRAMES = "content 1", f"frames 1.{decode_worker.VERSION}"
FAULT = b"fault "  # of a file that could not be read the store holds the kind of its fault


@dataclass(frozen=True)
class MediaHashes:
    """Makes hashes of files by ``num_threads`` at once, or takes them out of the store.

    A file that cannot be read has none; ``faults`` has it, with the kind of its fault.
    """

    store: HashStore
    num_threads: int
    faults: dict[Path, str] = field(default_factory=dict)

    def contents(self, first: Iterable[Path], second: Iterable[Path]) -> dict[Path, bytes]:
        """The hash of the content of each file that has a file of its size on the other side."""
        sides: list[dict[int, list[Path]]] = [defaultdict(list), defaultdict(list)]
        for by_size, paths in zip(sides, (first, second)):
            for path in filter(Path.is_file, paths):
                by_size[path.stat().st_size].append(path)
        shared = sides[0].keys() & sides[1].keys()
        return self._hashed(CONTENT, {path for size in shared for side in sides for path in side[size]}, _content_hash)

    def frames(self, files: Iterable[MediaFile]) -> dict[MediaFile, FrameHash]:
        """The hash of ``NUM_FRAMES`` frames of each video, and of each picture."""
        by_path = {file.path: file for file in files}
        with ExitStack() as stack:
            free = [stack.enter_context(closing(VideoReader(SETTINGS))) for _ in range(self.num_threads)]

            def hash_of(path: Path) -> bytes:
                if by_path[path].kind == "image":
                    return frame_hash(read_image(path)[None]).tobytes()
                reader = free.pop()  # one for each thread
                try:
                    frames_FHWC = reader.read(path).frames_FHWC
                finally:
                    free.append(reader)
                # Of a short one the last again.
                return frame_hash(frames_FHWC[np.arange(NUM_FRAMES).clip(max=len(frames_FHWC) - 1)]).tobytes()

            hashes = self._hashed(FRAMES, by_path, hash_of)
        return {by_path[path]: np.frombuffer(hash, FRAME) for path, hash in hashes.items()}

    def _hashed(self, kind: str, paths: Iterable[Path], hash_of: Callable[[Path], bytes]) -> dict[Path, bytes]:
        states: dict[Path, str] = {}
        for path in sorted(paths):
            try:
                states[path] = state_of(path)
            except OSError as error:  # it is gone since
                self.faults[path] = type(error).__name__
        found = {path: hash for path, state in states.items() if (hash := self.store.get(kind, path, state))}
        missing = [path for path in states if path not in found]
        pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="hash")
        try:
            made = pool.map(lambda path: _hash_or_fault(hash_of, path), missing)
            for path, hash in track(zip(missing, made), f"hash {kind.split()[0]}", len(missing)) if missing else ():
                found[path] = hash
                if hash != FAULT + DecodeTimeout.__name__.encode():  # which another day may not have
                    self.store.put(kind, path, states[path], hash)
        finally:
            pool.shutdown(cancel_futures=True)
        unread = {path: hash.removeprefix(FAULT).decode() for path, hash in found.items() if hash.startswith(FAULT)}
        self.faults.update(unread)
        return {path: hash for path, hash in found.items() if path not in unread}


def _hash_or_fault(hash_of: Callable[[Path], bytes], path: Path) -> bytes:
    try:
        return hash_of(path)
    except (MediaError, OSError) as error:
        return FAULT + type(error).__name__.encode()


def _content_hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
