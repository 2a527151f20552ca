"""Views that name media which no question has: what they are for would be nothing in the whole run."""

from collections.abc import Mapping, Sequence

from ktr.attribution.views import View
from ktr.errors import InputError
from ktr.types import Medium, VideoQuestion


def refuse_absent_media(views: Mapping[str, Sequence[View]], questions: Sequence[VideoQuestion]) -> None:
    """Raise InputError where a view, found by what it is of, names media and none of the questions has one of them.

    A view of all media is never refused: pictures alone have no order, and that is no mistake.
    """
    for owner, of_owner in views.items():
        for view in of_owner:
            named = getattr(view, "media", "all")
            if named != "all" and not any(any(view.changes(_before_reading(question))) for question in questions):
                raise InputError(
                    f"{owner}: media={list(named) if isinstance(named, tuple) else named} names nothing that it can "
                    "change in any question of the data; places count from 0, in the prompt's order: give others, or "
                    "all"
                )


def _before_reading(question: VideoQuestion) -> list[Medium]:
    """The media as if each video had an order, which only its file can tell."""
    return [Medium(file.kind, (2, 1, 1)) for file in question.media]
