"""What the file system alone can tell about a video or image: where it is, and whether it is a file at all."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from ktr.errors import CorruptMedia, MediaOutsideRoot, MissingMedia

SPECIAL_FILES = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
# What git puts in place of a large file, in less than a kilobyte.
LFS_POINTER, LARGEST_POINTER = b"version https://git-lfs.github.com/spec/", 1023
NOT_FETCHED = "a pointer of Git LFS, whose file was not fetched: fetch it with git lfs pull"


def check_media_file(path: Path | str) -> None:
    """Raises ``MissingMedia`` where there is no file, and ``CorruptMedia`` for one of zero bytes or of no data.

    None but a small regular file is opened: to open a FIFO can block for ever, and to open a device can do anything.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingMedia(path, "there is no such file") from None
    except OSError as error:
        raise MissingMedia(path, f"it cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in SPECIAL_FILES if is_kind(status.st_mode)), "a device")
        raise CorruptMedia(path, f"it is {kind}")
    if status.st_size == 0:
        raise CorruptMedia(path, "it has zero bytes")
    if status.st_size <= LARGEST_POINTER:
        with suppress(OSError), open(path, "rb") as file:  # a reader says what is wrong with what it cannot open
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise CorruptMedia(path, f"it is {NOT_FETCHED}")


class MediaRoot:
    """The folder that the rows' paths are relative to and must stay in, symbolic links resolved."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self._prefix = os.path.join(self.folder, "")
        # Files by the hundred thousand share some folders: each is resolved and listed once, not each file looked up.
        self._folders: dict[str, tuple[str, frozenset[str]]] = {}

    def file(self, relative: str) -> Path:
        """The resolved path of a media file.

        Raises ``MissingMedia``, ``CorruptMedia`` (see ``check_media_file``) or ``MediaOutsideRoot``.
        """
        asked = os.path.join(self._prefix, relative)
        folder, name = os.path.split(asked)
        try:
            resolved, files = self._folders.get(folder) or self._list(folder)
            path = f"{resolved}/{name}" if name in files else os.path.realpath(asked)
        except OSError as error:
            raise MissingMedia(asked, f"it cannot be opened ({error.strerror})") from None
        except ValueError as error:  # a character that names of files cannot have here
            raise MissingMedia(asked, f"it cannot be the name of a file ({error})") from None
        if not path.startswith(self._prefix):
            raise MediaOutsideRoot(asked, f"it leads to {path}, outside the media root {self.folder}")
        if name not in files:  # missing, a link, or no regular file
            check_media_file(path)
        return Path(path)

    def _list(self, folder: str) -> tuple[str, frozenset[str]]:
        """Where a folder really is, and the names of the regular files in it."""
        resolved, files = os.path.realpath(folder), frozenset[str]()
        if f"{resolved}/".startswith(self._prefix):
            with suppress(OSError), os.scandir(resolved) as entries:
                files = frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        return self._folders.setdefault(folder, (resolved, files))
