"""A user's own videos or pictures with one question about each of them or several together, or a file of rows."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ktr.data.dataset import QuestionDataset
from ktr.data.image import is_picture
from ktr.data.media_file import check_media_file
from ktr.data.row_media import MARKER, NO_SOUND, SOUND_MARKER, is_sound, prompt_order
from ktr.data.rows import OPTION_LETTER, SPECIAL_TOKEN, options_fault
from ktr.errors import InputError, MediaError, MissingData
from ktr.types import MediaFile, VideoQuestion


class OwnQuestions(QuestionDataset):
    """``question`` about each of ``media``, or the rows of ``rows`` in the Video-R1 format.

    Args:
        media: the paths, videos and pictures alike; a single one need not be a list. Where the text holds several
            ``<video>`` or ``<image>``, the list is one question about all, each where its marker is. A list inside of
            the list is one question about several in any case; without markers they stand before the text, in order.
        question: what is asked about each. There is no answer, and so no reward.
        options: makes the question multiple choice; options without letters get them.
        rows: a file as ``QuestionDataset`` reads it, in place of media and question.
        media_root: the folder that the rows' paths are relative to; that of the file if None.
        limit: reads rows until so many are usable.
        format: reads the rows, as in ``QuestionDataset``.

    Raises ``InputError`` where a file isn't there, a text can't be asked or has other markers than there are media, or
    the options don't fit.
    """

    def __init__(
        self,
        media: str | Sequence[str | Sequence[str]] | None = None,
        question: str | None = None,
        options: Sequence[str] | None = None,
        rows: str | None = None,
        media_root: str | None = None,
        limit: int | None = None,
        format: Callable[[Any], Mapping[str, Any]] | str | None = None,
    ) -> None:
        if rows is not None:
            try:
                super().__init__(rows, media_root or Path(rows).parent, limit, format=format)
            except MissingData as error:
                raise InputError(str(error)) from error
            return
        question = checked_text(question or "", "question")
        lettered = lettered_options([checked_text(option, "options") for option in options or []])
        text = "\n".join((question, *lettered))
        if SOUND_MARKER in text:
            raise InputError(f"question holds {SOUND_MARKER}, and {NO_SOUND}: leave it out")
        together = _together([media] if isinstance(media, str) else media or [], text)
        self.skips = []
        self.questions = [
            VideoQuestion(
                id="-".join([*([str(index)] if len(together) > 1 else []), *(Path(path).stem for path in paths)]),
                problem=question,
                problem_type="multiple choice" if lettered else "free-form",
                answer="",
                media=_in_order(paths, text),
                options=tuple(lettered),
            )
            for index, paths in enumerate(together, 1)
        ]


def checked_text(text: str, key: str) -> str:
    """The text, if a policy can be asked it or could have written it. Raises ``InputError``."""
    if not str(text).strip():
        raise InputError(f"{key} is empty: give {key}=… some text")
    if special := SPECIAL_TOKEN.search(str(text)):
        raise InputError(f"{key} holds the special token {special.group()}, which no text may: leave it out")
    return str(text).strip()


def lettered_options(options: Sequence[str]) -> list[str]:
    """The options, each with its letter. Raises ``InputError`` where they can't be told apart."""
    lettered = list(options)
    if not any(OPTION_LETTER.match(option) for option in options):
        if len(options) > 26:
            raise InputError(f"options={list(options)}: they are {len(options)}, and letters are 26; leave some out")
        lettered = [f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options)]
    first = re.match(r"\W*(\w)", lettered[0]) if lettered else None
    if lettered and (fault := options_fault(lettered, "multiple choice", first.group(1) if first else "")):
        raise InputError(f"options={list(options)}: {fault}")
    return lettered


def _together(media: Sequence[str | Sequence[str]], text: str) -> list[Sequence[str]]:
    """The paths of each question."""
    several = len(MARKER.findall(text)) > 1
    if several and all(isinstance(one, str) for one in media):
        return [cast(Sequence[str], media)]
    return [[one] if isinstance(one, str) else one for one in media]


def _in_order(paths: Sequence[str], text: str) -> tuple[MediaFile, ...]:
    files = [_own_file(Path(path).expanduser()) for path in paths]
    try:
        return tuple(files[place] for place in prompt_order([file.kind for file in files], text))
    except ValueError as error:
        raise InputError(f"media=[{','.join(map(str, paths))}]: {error}; correct the question or media") from error


def _own_file(path: Path) -> MediaFile:
    if is_sound(path.name):
        raise InputError(f"media={path}: {NO_SOUND}; give media=… a video or a picture")
    try:
        check_media_file(path)
    except MediaError as error:
        raise InputError(f"media={path}: {error.reason}; give media=… a video or a picture") from error
    return MediaFile(path.resolve(), "image" if is_picture(path) else "video")
