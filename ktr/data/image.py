"""Images from disk."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ktr.data.media_file import check_media_file
from ktr.errors import CorruptMedia


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Reads an image as RGB; transparent parts become white.

    Raises ``MissingMedia``, or ``CorruptMedia`` for a file that is empty, truncated or no image.
    """
    check_media_file(path)
    if not path.is_file():
        raise CorruptMedia(path, "it is not a regular file")
    try:
        with Image.open(path) as image:
            rgba = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptMedia(path, f"it cannot be read as an image ({error})") from None
    canvas = Image.new("RGBA", rgba.size, "white")
    return np.asarray(Image.alpha_composite(canvas, rgba).convert("RGB"))
