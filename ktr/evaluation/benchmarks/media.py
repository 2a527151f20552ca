"""Where the media of items are below a media root."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ktr.evaluation.benchmarks.item import ItemMedium

ENDINGS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".gif")


class MediaFinder:
    """Finds a medium by the paths that its row gives.

    Of each path the longest end that exists below ``media_root`` counts, for files name theirs from one folder or
    another, or from somebody's own. A video may have another ending than its row says: it was converted.
    """

    def __init__(self, media_root: str) -> None:
        self.media_root = media_root
        self._files: dict[str, frozenset[str]] = {}

    def find(self, medium: ItemMedium) -> Path | None:
        """The medium's file, or its folder of frames; None where it is not there, or is empty."""
        for path in medium.paths:
            parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", ".", "..")]
            for first in range(len(parts)):
                if found := self._look(parts[first:], medium.kind == "frames"):
                    return found
        return None

    def _look(self, parts: Sequence[str], is_folder: bool) -> Path | None:
        folder = os.path.join(self.media_root, *parts[:-1])
        if is_folder:
            whole = os.path.join(folder, parts[-1])
            return Path(whole) if self._names(whole) else None
        names, stem = self._names(folder), os.path.splitext(parts[-1])[0]
        name = next((name for name in (parts[-1], *(stem + ending for ending in ENDINGS)) if name in names), None)
        return None if name is None else Path(folder, name)

    def _names(self, folder: str) -> frozenset[str]:
        """The files in a folder that hold something, listed once."""
        if folder not in self._files:
            try:
                with os.scandir(folder) as entries:
                    self._files[folder] = frozenset(e.name for e in entries if e.is_file() and e.stat().st_size)
            except OSError:
                self._files[folder] = frozenset()
        return self._files[folder]
