"""Hashes of media files: of their content where another of that size is looked for, and of how they look."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ktr.console.progress_line import track
from ktr.data.image import read_image
from ktr.data.video import VideoReader, VideoSettings
from ktr.duplicates.frame_hash import NUM_FRAMES, FrameHash, frame_hash
from ktr.duplicates.hash_store import HashStore, key_of
from ktr.errors import DecodeTimeout, MediaError
from ktr.types import MediaFile

# By time, so that a copy with another frame rate gives the same moments.
SETTINGS = VideoSettings(NUM_FRAMES, max_pixels=1, min_pixels=1, decode_timeout_s=60, min_frames=1, sampling="time")
CONTENT, FRAMES = "content 1", "frames 1"  # kinds of hashes in the store; another number when one is made otherwise
FAULT = b"fault "  # of a file that could not be read the store holds the kind of its fault
Hash = Callable[[Path], bytes]


def content_hashes(
    first: Collection[Path], second: Collection[Path], store: HashStore, num_threads: int, faults: Counter[str]
) -> dict[Path, bytes]:
    """The hash of the content of each file that has a file of its size on the other side."""
    by_size: list[dict[int, set[Path]]] = []
    for paths in (first, second):
        by_size.append(defaultdict(set))
        for path in filter(Path.is_file, paths):
            by_size[-1][path.stat().st_size].add(path)
    shared = sorted((by_size[0].keys() & by_size[1].keys()) - {0})
    paths = sorted({path for size in shared for sizes in by_size for path in sizes[size]})
    return _hashed(CONTENT, paths, _content_hash, store, num_threads, faults)


def frame_hashes(
    files: Collection[MediaFile], store: HashStore, num_decoders: int, faults: Counter[str]
) -> dict[Path, FrameHash]:
    """The hash of the frames of each video and picture."""
    pictures = {file.path for file in files if file.kind == "image"}
    readers = [VideoReader(SETTINGS) for _ in range(num_decoders)]
    free = list(readers)

    def hash_of(path: Path) -> bytes:
        if path in pictures:
            return frame_hash(read_image(path)[None]).to_bytes()
        reader = free.pop()  # one for each thread
        try:
            frames_FHWC = reader.read(path).frames_FHWC
        finally:
            free.append(reader)
        places = [min(place, len(frames_FHWC) - 1) for place in range(NUM_FRAMES)]  # of a short one the last again
        return frame_hash(frames_FHWC[places]).to_bytes()

    try:
        hashes = _hashed(FRAMES, sorted({file.path for file in files}), hash_of, store, num_decoders, faults)
    finally:
        for reader in readers:
            reader.close()
    return {path: FrameHash.from_bytes(data) for path, data in hashes.items()}


def _hashed(
    kind: str, paths: Sequence[Path], hash_of: Hash, store: HashStore, num_threads: int, faults: Counter[str]
) -> dict[Path, bytes]:
    """The hash of each file, from the store or made. Files that cannot be read are counted by the kind of fault."""
    keys = {path: key for path in paths if (key := key_of(kind, path)) is not None}
    found = {path: data for path, key in keys.items() if (data := store.get(key)) is not None}
    missing = [path for path in keys if path not in found]
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="hash")
    try:
        made = zip(missing, pool.map(partial(_hash_or_fault, hash_of), missing), strict=True)
        for path, data in track(made, f"hash {kind.split()[0]}", len(missing)) if missing else ():
            found[path] = data
            if data != FAULT + DecodeTimeout.__name__.encode():  # which another day may not have
                store.put(keys[path], data)
    finally:
        pool.shutdown(cancel_futures=True)
        store.commit()
    faults.update(data.removeprefix(FAULT).decode() for data in found.values() if data.startswith(FAULT))
    return {path: data for path, data in found.items() if not data.startswith(FAULT)}


def _hash_or_fault(hash_of: Hash, path: Path) -> bytes:
    try:
        return hash_of(path)
    except (MediaError, OSError) as error:
        return FAULT + type(error).__name__.encode()


def _content_hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
