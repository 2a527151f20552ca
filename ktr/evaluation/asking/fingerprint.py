"""What tells one model folder from another: its config and samples of its weights, read in a second at any size."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

NUM_BLOCKS, BLOCK_BYTES = 64, 1 << 16


def fingerprint(folders: Iterable[Path]) -> str:
    """A hash of folders, such as a base and its adapters, that changes with configs, processors and weights.

    Of weights 64 blocks of 64 KiB of each file are read: training changes nearly all of them.
    """
    digest = hashlib.blake2b(digest_size=8)
    for folder in folders:
        for file in sorted([*folder.glob("*.json"), *folder.glob("*.jinja")]):
            digest.update(file.name.encode() + file.read_bytes())
        for file in sorted(folder.glob("*.safetensors")):
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as content:
                for block in range(NUM_BLOCKS):
                    content.seek(block * max(size - BLOCK_BYTES, 0) // (NUM_BLOCKS - 1))
                    digest.update(content.read(BLOCK_BYTES))
    return digest.hexdigest()
