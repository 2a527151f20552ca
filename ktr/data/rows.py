"""One row of an annotation file in the Video-R1 format, checked and turned into a question.

Whatever a row holds, it becomes a question or an error of its own type: nothing is converted in silence, but for an
answer or an option that is written as a number.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ktr import errors
from ktr.data.media_file import MediaRoot
from ktr.data.row_media import MEDIA_KEYS, row_media
from ktr.rewards.answers import parse_number
from ktr.types import PROBLEM_TYPES, VideoQuestion

TEXTS = ("problem", "process", "solution", "data_source", "original_question_type")
KNOWN_KEYS = frozenset({*TEXTS, *MEDIA_KEYS, "problem_id", "data_type", "problem_type", "options"})
SPECIAL_TOKEN = re.compile(r"<\|\w+\|>")
OPTION_LETTER = re.compile(r"\s*\(?([A-Z])[.):]")
TAG = re.compile(r"</?(?:think|answer)>")


def row_id(row: Any, file: Path, index: int) -> str:
    """The row's own id; one made of the file's name and the row's index where it has none that can be used."""
    own = row.get("problem_id") if isinstance(row, Mapping) else None
    if isinstance(own, int) and not isinstance(own, bool):
        return str(own)
    return own if isinstance(own, str) and own.strip() and is_text(own) else f"{file.stem}-{index}"


def question_from_row(row: Any, file: Path, index: int, root: MediaRoot) -> VideoQuestion:
    """Checks one row and turns it into a question. Raises a ``RowError``, or a ``MediaError`` for a path."""
    row = with_numbers_written(row)
    check_texts(row, file, index)
    problem_type = row.get("problem_type")
    if problem_type not in PROBLEM_TYPES:
        raise errors.UnknownProblemType(file, index, f"problem_type {problem_type!r} is none of {PROBLEM_TYPES}")
    answer = inside_tag("answer", row, "solution", file, index)
    if answer is None:
        raise errors.MissingAnswer(file, index, "it has no solution, or an empty one")
    if problem_type in ("numerical", "regression") and parse_number(answer) is None:
        raise errors.UnreadableAnswer(file, index, f"the answer {answer!r} of a {problem_type} problem is no number")
    if fault := options_fault(row.get("options"), problem_type, answer):
        raise errors.BadOptions(file, index, fault)
    return VideoQuestion(
        id=row_id(row, file, index),
        problem=row["problem"].strip(),
        problem_type=problem_type,
        answer=answer,
        media=row_media(row, file, index, root),
        options=tuple(row.get("options") or ()),
        reasoning=inside_tag("think", row, "process", file, index),
        source=row.get("data_source") or "",
        category=row.get("original_question_type") or "",
        extra={key: value for key, value in row.items() if key not in KNOWN_KEYS},
    )


def with_numbers_written(row: Any) -> Any:
    """The row with the finite numbers among its solution and options as texts: 42 is answered "42"."""
    if not isinstance(row, Mapping):
        return row
    solution, options = row.get("solution"), row.get("options")
    if _is_number(solution):
        row = {**row, "solution": str(solution)}
    if isinstance(options, list) and any(map(_is_number, options)):
        row = {**row, "options": [str(option) if _is_number(option) else option for option in options]}
    return row


def _is_number(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


def check_texts(row: Any, file: Path, index: int) -> None:
    """Raises ``MalformedRow`` where a row is no object, or a text in it is none, or none that can be learned from."""
    if not isinstance(row, Mapping):
        raise errors.MalformedRow(file, index, f"it is of type {type(row).__name__}, and no object")
    for key in TEXTS:
        if (value := row.get(key)) is not None and not isinstance(value, str):
            raise errors.MalformedRow(file, index, f"its {key} is of type {type(value).__name__}, and no text")
    own_id = row.get("problem_id")
    if isinstance(own_id, bool) or not (own_id is None or isinstance(own_id, int | str)) or own_id == "":
        raise errors.MalformedRow(file, index, f"its problem_id {own_id!r} is neither a text nor a whole number")
    written = repr(row)  # one fast look at all of it, for what few rows have
    if r"\ud" in written and (broken := [key for key in row if not is_text([key, row[key]])]):
        raise errors.MalformedRow(file, index, f"its {broken[0]!r} holds half of a character (a lone surrogate)")
    if not (row.get("problem") or "").strip():
        raise errors.MalformedRow(file, index, "it has no problem")
    if "<|" in written:
        read = " ".join(str(row.get(key)) for key in ("problem", "options", "process", "solution"))
        if special := SPECIAL_TOKEN.search(read):
            raise errors.MalformedRow(file, index, f"its text holds the special token {special.group()}")


def is_text(value: Any) -> bool:
    """Whether all texts in a value of JSON can be written: half of a surrogate pair alone cannot."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                return False
        elif isinstance(value, Mapping):
            values += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            values += value
    return True


def inside_tag(tag: str, row: Mapping[str, Any], key: str, file: Path, index: int) -> str | None:
    """What stands inside the one pair of tags of a text, or all of it where it has no tags; None if that is nothing.

    Raises ``MalformedRow`` where tags are left over, for they would be learned: two answers, or one that never ends.
    """
    text = row.get(key) or ""
    if "<" not in text:
        return text.strip() or None
    pairs = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    inner = pairs[0] if pairs else text
    if len(pairs) > 1 or TAG.search(inner):
        raise errors.MalformedRow(file, index, f"its {key} has tags other than one <{tag}>…</{tag}>")
    return inner.strip() or None


def options_fault(options: Any, problem_type: str, answer: str) -> str | None:
    """What is wrong with the options, if anything. Several answers are letters with commas between them."""
    if options is not None and (not isinstance(options, list) or not all(isinstance(o, str) for o in options)):
        return f"options must be a list of texts, not {options!r}"
    if problem_type != "multiple choice":
        return f"a {problem_type} problem has options" if options else None
    if not options or len(options) < 2:
        return "a multiple choice problem needs a list of at least two options"
    matches = [OPTION_LETTER.match(option) for option in options]
    letters = [match.group(1) for match in matches if match]
    if len(letters) < len(options) or len(set(letters)) < len(letters):
        return f'options must start with different letters, like "A. red": {options}'
    bodies = {match.string[match.end() :].strip() for match in matches if match}
    if len(bodies) < len(options) or "" in bodies:
        return f"options must have different texts after their letters: {options}"
    named = [letter.strip() for letter in answer.split(",")]
    if not set(named) <= set(letters) or len(set(named)) < len(named):
        return f"the answer {answer!r} is none of the options' letters {letters}"
    return None
