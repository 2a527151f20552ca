"""Names of files that are called after a text of the user's: the id of a question, the name of a benchmark."""

import re
from zlib import crc32

MAX_LENGTH = 80  # with what is written around it, far below the 255 bytes that a file system takes


def file_name(text: str) -> str:
    """A text as a file may be called: what is ASCII of its beginning, and a checksum where that is not all of it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:MAX_LENGTH]
    return name if name == text else f"{name}-{crc32(text.encode()):08x}"
