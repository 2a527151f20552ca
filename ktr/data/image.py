"""Images from disk."""

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from ktr.data.media_file import check_media_file
from ktr.errors import CorruptMedia, NotAnImage

# What decoders raise at damaged files: not all of it is theirs.
UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, Image.DecompressionBombError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")  # formats whose further frames are later ones, and not other sizes or pages
SIXTEEN_BIT = ("PNG", "PPM")  # formats whose pictures of mode I have 16 bits
# The first bytes of what is no picture, from a place on.
OTHER_MEDIA = (
    (4, b"ftyp", "a video (MP4)"), (4, b"moov", "a video (QuickTime)"), (4, b"mdat", "a video (QuickTime)"),
    (0, b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"), (8, b"AVI ", "a video (AVI)"),
    (0, b"FLV", "a video (FLV)"), (0, b"\x30\x26\xb2\x75", "a video (ASF)"), (0, b"\x00\x00\x01\xba", "a video (MPEG)"),
    (188, b"G", "a video (MPEG-TS)"), (0, b"OggS", "a video or sound (Ogg)"), (8, b"WAVE", "sound (WAV)"),
    (0, b"ID3", "sound (MP3)"), (0, b"fLaC", "sound (FLAC)"), (0, b"%PDF", "a document (PDF)"),
)  # fmt: skip


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Reads an image as RGB, the way up that viewers show it; transparent parts become white.

    Samples of 16 bits are scaled to 8. Raises ``MissingMedia``, ``NotAnImage`` for a video, an animation or sound, or
    ``CorruptMedia`` for a file that is empty, truncated or no image.
    """
    check_media_file(path)
    try:
        with Image.open(path) as image:
            if image.format in ANIMATED and (frames := getattr(image, "n_frames", 1)) > 1:
                raise NotAnImage(path, f"it is an animation ({image.format}) of {frames} frames, not a picture")
            rgba = ImageOps.exif_transpose(_with_eight_bits(image)).convert("RGBA")
    except UNREADABLE as error:
        if kind := _other_medium(path):
            raise NotAnImage(path, f"it is {kind}, not a picture") from None
        raise CorruptMedia(path, f"it cannot be read as an image ({error})") from None
    canvas = Image.new("RGBA", rgba.size, "white")
    return np.array(Image.alpha_composite(canvas, rgba).convert("RGB"))


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """The picture with samples of 8 bits; PIL would clip those of 16. Raises ValueError for those of unknown range."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BIT):
        samples_HW = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        scaled = Image.fromarray(samples_HW.astype(np.uint8))
        scaled.info.update(exif=image.getexif().tobytes())
        return scaled
    if image.mode in ("I", "F"):
        raise ValueError(f"samples of mode {image.mode}, whose range is not known")
    return image


def _other_medium(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError:
        return None
    return next((kind for place, magic, kind in OTHER_MEDIA if start.startswith(magic, place)), None)


def is_picture(path: Path) -> bool:
    """Whether the file is a single picture, which its first bytes say; several pictures in a row are a video."""
    try:
        with Image.open(path) as image:
            # A phone's MPO holds other sizes and angles of one picture.
            return image.format == "MPO" or not getattr(image, "is_animated", False)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
