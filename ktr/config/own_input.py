"""What attribute's command line asks in place of the data, checked as far as it can be before any heavy import."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ktr.errors import InputError

OUTPUTS = (".html", ".json")


def check_own_input(config: Mapping[str, Any]) -> None:
    """Raise InputError where a question has no video, a video no question, or a value can be none of its kind."""
    if "media" not in config:
        return
    media, rows, question = config["media"], config["rows"], config["question"]
    if media and rows:
        raise InputError("media and rows both say what is asked: give one of them")
    if (question is not None or config["options"]) and not media:
        raise InputError("question and options are about a video: give media=clip.mp4 as well; rows have their own")
    if media is not None and not (question or "").strip():
        raise InputError(f'media={_text(media)} has no question: give question="…" as well')
    if config["media_root"] and not rows:
        raise InputError("media_root is the folder of the videos of rows=…: give rows, or leave it out")
    if config["format"] and not rows:
        raise InputError("format is how rows=… are read: give rows, or leave it out")
    for path in _paths(media):
        _check_file(path, "media", "a video or a picture")
    if rows is not None:
        _check_file(rows, "rows", "a JSON list or JSON lines")
    if config["completion"] is not None and not config["completion"].strip():
        raise InputError("completion is empty: give the text to score, or leave completion out to have answers sampled")
    if config["output"] is None:
        return
    output = Path(config["output"]).expanduser()
    if output.suffix not in OUTPUTS or output.is_dir():
        raise InputError(f"output={output}: the page is an .html file, with its .json beside it")
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"output={output}: nothing can be written in {above}; give another path")


def _check_file(path: str, key: str, kind: str) -> None:
    if not Path(path).expanduser().is_file():
        raise InputError(f"{key}={path}: there is no such file; give {key}=… {kind}")


def _paths(media: Any) -> list[str]:
    """All paths of a path, a list of them, or a list of lists, each of which is one question about several."""
    if media is None or isinstance(media, str):
        return [] if media is None else [media]
    if [] in list(media):
        raise InputError(
            "media holds an empty list: a list in the list names what one question is about, [[a.mp4,b.png]]"
        )
    paths = [path for one in media for path in ([one] if isinstance(one, str) else one)]
    if wrong := [path for path in paths if not isinstance(path, str)]:
        raise InputError(
            f"media holds {wrong[0]!r}, which is no path: give media=clip.mp4, [a.mp4,b.png] or [[a.mp4,b.png]]"
        )
    return paths


def _text(media: Any) -> str:
    return media if isinstance(media, str) else f"[{','.join(map(_text, media))}]"
