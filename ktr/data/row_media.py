"""The media of a row: which files, of which kinds, and in the order in which the row's text places them.

``path`` is one path or a list of them, each a text or an object of a ``path`` and a ``type``. What a medium is says its
own ``type``, else ``data_type`` (one for all, or a list of one each), else the ending of its file's name; a ``path``
that is just a text is a video, as in the Video-R1 format.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ktr import errors
from ktr.data.media_file import MediaRoot
from ktr.types import MediaFile, MediaKind

KINDS: tuple[MediaKind, ...] = ("video", "image")
MEDIA_KEYS = ("path", "video")
MARKER = re.compile(r"<(video|image)>")
PICTURES = frozenset(
    {".avif", ".bmp", ".heic", ".jfif", ".jpeg", ".jpg", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
SOUNDS = frozenset({".aac", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"})
SOUND_MARKER = "<audio>"
NO_SOUND = "sound stays out: a question is about videos and images"


def row_media(row: Mapping[str, Any], file: Path, index: int, root: MediaRoot) -> tuple[MediaFile, ...]:
    """The media of a row, in the order of the prompt.

    Raises ``MalformedRow``, ``UnknownDataType``, ``MisplacedMedia`` where markers do not fit, or a ``MediaError`` that
    names the file.
    """
    _refuse_sound(row, file, index)
    given = next((row[key] for key in MEDIA_KEYS if row.get(key)), None)
    if given is None:
        reason = (
            "its list of media is empty" if [] in map(row.get, MEDIA_KEYS) else "it has no path of a video or image"
        )
        raise errors.MalformedRow(file, index, reason)
    items = given if isinstance(given, list) else [given]
    kinds = _data_types(row, len(items), file, index)
    if isinstance(given, str) and "data_type" not in row and not is_sound(given):
        kinds[0] = "video"
    names = ["path"] if len(items) == 1 else [f"path[{place}]" for place in range(len(items))]
    media = [_path_and_kind(*each, file, index) for each in zip(items, kinds, names, strict=True)]
    text = "\n".join((row["problem"], *(row.get("options") or ())))
    try:
        order = prompt_order([kind for _, kind in media], text)
    except ValueError as error:
        raise errors.MisplacedMedia(file, index, str(error)) from None
    files = [MediaFile(root.file(path), kind) for path, kind in media]
    return tuple(files[place] for place in order)


def prompt_order(kinds: Sequence[MediaKind], text: str) -> list[int]:
    """The places of the media in the order in which ``text`` has them: the first ``<video>`` is the first video.

    Without a marker it is their own order, before the text. Raises ValueError where markers and media differ in number.
    """
    markers = MARKER.findall(text)
    if not markers:
        return list(range(len(kinds)))
    of_kind = {kind: [place for place, own in enumerate(kinds) if own == kind] for kind in KINDS}
    for kind, places in of_kind.items():
        if markers.count(kind) != len(places):
            raise ValueError(
                f"its text holds {markers.count(kind)} <{kind}>, and {len(places)} of its media are of that type: each "
                "medium has one marker, or none has"
            )
    return [of_kind[kind].pop(0) for kind in markers]


def is_sound(path: str) -> bool:
    """Whether a file's name says that it holds sound alone."""
    return _ending(path) in SOUNDS


def _refuse_sound(row: Mapping[str, Any], file: Path, index: int) -> None:
    for key in ("audio", "audios"):
        value = row.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and is_sound(name):
                raise errors.UnknownDataType(file, index, f"its {key} is {name!r}, and {NO_SOUND}")
    if any(SOUND_MARKER in text for text in (row["problem"], *(row.get("options") or ()))):
        raise errors.UnknownDataType(file, index, f"its text holds {SOUND_MARKER}, and {NO_SOUND}")


def _data_types(row: Mapping[str, Any], count: int, file: Path, index: int) -> list[MediaKind | None]:
    """What ``data_type`` says of each medium: nothing where there is no such key."""
    if "data_type" not in row:
        return [None] * count
    given = row["data_type"]
    if isinstance(given, list) and len(given) != count:
        raise errors.UnknownDataType(file, index, f"its data_type lists {len(given)} types for {count} media")
    return [_kind(kind, "data_type", file, index) for kind in (given if isinstance(given, list) else [given] * count)]


def _path_and_kind(item: Any, kind: MediaKind | None, name: str, file: Path, index: int) -> tuple[str, MediaKind]:
    path = item
    if isinstance(item, Mapping):
        if unread := sorted(set(item) - {"path", "type"}):
            reason = f"its {name} has the key {unread[0]!r}, and only path and type are read"
            raise errors.MalformedRow(file, index, reason)
        path, kind = item.get("path"), _kind(item["type"], f"{name}.type", file, index) if "type" in item else kind
    if not isinstance(path, str):
        raise errors.MalformedRow(file, index, f"its {name} is of type {type(path).__name__}, and no text")
    if not path or "\0" in path:
        raise errors.MalformedRow(file, index, f"its {name} is no path of a video or image")
    if kind is None and is_sound(path):
        raise errors.UnknownDataType(file, index, f"its {name} is {path!r}, and {NO_SOUND}")
    return path, kind or ("image" if _ending(path) in PICTURES else "video")


def _kind(given: Any, name: str, file: Path, index: int) -> MediaKind:
    if given not in KINDS:
        more = f"; {NO_SOUND}" if given == "audio" else ""
        raise errors.UnknownDataType(file, index, f"{name} {given!r} is neither video nor image{more}")
    return cast(MediaKind, given)


def _ending(path: str) -> str:
    return path[path.rfind(".") :].lower() if "." in path else ""
