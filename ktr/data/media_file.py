"""What the file system alone can tell about a video or image."""

import os
import stat
from pathlib import Path

from ktr.errors import CorruptMedia, MissingMedia


def check_media_file(path: Path) -> None:
    """Raises ``MissingMedia`` where there is no file, and ``CorruptMedia`` for a folder or a file of zero bytes."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingMedia(path, "there is no such file") from None
    except OSError as error:
        raise MissingMedia(path, f"it cannot be opened ({error.strerror})") from None
    if stat.S_ISDIR(status.st_mode):
        raise CorruptMedia(path, "it is a folder")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise CorruptMedia(path, "it has zero bytes")
