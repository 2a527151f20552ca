"""From an item of a benchmark to the question that a policy is asked."""

import math

from ktr.data.row_media import MARKER, prompt_order
from ktr.data.rows import SPECIAL_TOKEN
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.evaluation.benchmarks.tempcompass import YES_NO
from ktr.types import WHOLE, Clip, MediaFile, MediaKind, VideoQuestion


def question_of(item: Item, benchmark: str, finder: MediaFinder) -> VideoQuestion:
    """The question of an item whose media are there.

    An answer of yes or no is asked for in words, since it has no letters. Markers that do not fit the media are left
    out: the media then stand before the text.
    """
    asked = item.asked
    is_yes_no = asked.options == YES_NO
    text = f"{asked.question}\nAnswer yes or no." if is_yes_no else asked.question
    options = () if is_yes_no else asked.options
    clip = Clip(item.start or 0.0, math.inf if item.end is None else item.end)
    media: list[MediaFile] = []
    for medium in item.media:
        path = finder.find(medium)
        assert path is not None, f"the media of {item.id} were looked for"
        kind: MediaKind = "image" if medium.kind == "image" else "video"
        media.append(MediaFile(path, kind, clip if kind == "video" else WHOLE))
    try:
        order = prompt_order([file.kind for file in media], "\n".join((text, *options)))
    except ValueError:
        order, text = range(len(media)), MARKER.sub("", text).strip()
        options = tuple(MARKER.sub("", option) for option in options)
    return VideoQuestion(
        id=item.id,
        problem=text,
        problem_type="free-form" if is_yes_no else asked.problem_type,
        answer=asked.answer,
        media=tuple(media[place] for place in order),
        options=options,
        source=benchmark,
        category=item.subtask,
    )


def special_token(question: VideoQuestion) -> str | None:
    """A token of a chat template that a question's text holds, and which no model is to read as one."""
    found = SPECIAL_TOKEN.search("\n".join((question.problem, *question.options)))
    return None if found is None else found.group()
