"""Options as files have them, a list, an object by letter, or a list written as a text; and the letter of an answer."""

import ast
from collections.abc import Mapping
from typing import Any

from ktr.errors import BadOptions
from ktr.evaluation.benchmarks.item import Place
from ktr.evaluation.rules.asked import Asked, label_of, labelled, named_options


def some_options(row: Mapping[str, Any], key: str, place: Place) -> tuple[str, ...]:
    """The options at a key, "A. red" each; () where there are none. Raises ``MalformedRow`` for anything else."""
    value = row.get(key)
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError):
            raise place.fault(key, "is a text that holds no list") from None
    if isinstance(value, Mapping):
        value = [f"{letter}. {body}" for letter, body in value.items() if body not in (None, "")]
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str | int | float) for each in value):
        raise place.fault(key, "is no list of texts")
    return lettered([str(each).strip() for each in value])


def lettered(options: list[str]) -> tuple[str, ...]:
    """The options with letters in front, where they have no labels of their own."""
    if any(body != option for body, option in zip(labelled(options).values(), options)):
        return tuple(options)
    return tuple(f"{label_of(place)}. {option}" for place, option in enumerate(options))


def choice(
    question: str, options: tuple[str, ...], answer: str, place: Place, key: str, is_text: bool = False
) -> Asked:
    """A multiple choice. ``answer`` is the letters of the right options, or with ``is_text`` the right one's text.

    Raises ``BadOptions`` where it is none of the options. Of equal texts the last is meant, as in MVBench's script.
    """
    bodies = labelled(options)
    named: tuple[str, ...] = ()
    if is_text:
        named = tuple(label for label, body in bodies.items() if body == answer)[-1:]
    named = named or named_options(answer, bodies)
    if not named:
        raise BadOptions(place.file, place.index, f"its {key!r} {answer!r} is none of its options {list(options)}")
    letters = ",".join(named[-1:] if is_text else named)
    return Asked(letters, "multiple choice", options, answer if answer != letters else "", question)
