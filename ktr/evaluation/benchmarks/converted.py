"""Rows in Video-R1's form, into which the field has converted most benchmarks: ``problem`` and ``solution``.

Such files keep keys of the official ones beside those, and differ in their paths: relative to one folder or another,
or of somebody's disk.
"""

import re
from collections.abc import Mapping
from typing import Any

from ktr.evaluation.benchmarks.item import Fields, ItemMedium, Place, a_text, a_time
from ktr.evaluation.benchmarks.options import choice, some_options
from ktr.evaluation.rules.asked import Asked
from ktr.rewards.answers import parse_number

TAGGED = re.compile(r"<answer>(.*)</answer>", re.DOTALL)
IDS = ("problem_id", "id", "question_id", "Question ID")
TYPES = ("multiple choice", "numerical", "OCR", "free-form", "regression")


def is_converted(row: Mapping[str, Any]) -> bool:
    return "problem" in row and "solution" in row


def converted(row: Mapping[str, Any], place: Place) -> Fields:
    """What a row in this form says. Raises ``MalformedRow`` or ``BadOptions``."""
    question, solution = a_text(row, "problem", place), a_text(row, "solution", place)
    tagged = TAGGED.search(solution)
    answer = (tagged.group(1) if tagged else solution).strip()
    if not answer:
        raise place.fault("solution", "holds an empty answer")
    own = row.get("question")
    if isinstance(own, str) and own.strip() and question.startswith(own.strip()):
        question = own.strip()  # the problem repeats the options behind it
    options = some_options(row, "options", place)
    kind = row.get("problem_type") or _kind(options, answer)
    if kind not in TYPES:
        raise place.fault("problem_type", f"is {kind!r}, and none of {', '.join(TYPES)}")
    written = row.get("answer")
    written = written.strip() if isinstance(written, str) else ""
    if kind == "multiple choice" and options:
        asked = choice(question, options, answer, place, "solution")
        asked = Asked(asked.answer, kind, options, written or asked.written, question)
    else:
        asked = Asked(answer, kind, options, written if written != answer else "", question)
    return Fields(row_id(row, place), asked, _media(row, place), a_time(row, "start", place), a_time(row, "end", place))


def row_id(row: Mapping[str, Any], place: Place) -> str:
    """The row's own id; the file's name with the row's index where it has none."""
    given = [row[key] for key in IDS if isinstance(row.get(key), str | int) and not isinstance(row[key], bool)]
    own = next((str(value).strip() for value in given if str(value).strip()), None)
    return own or f"{place.file.stem}-{place.index}"


def _kind(options: tuple[str, ...], answer: str) -> str:
    return "multiple choice" if options else "free-form" if parse_number(answer) is None else "numerical"


def _media(row: Mapping[str, Any], place: Place) -> tuple[ItemMedium, ...]:
    paths = [row[key] for key in ("path", "video") if row.get(key)]
    if not paths:
        raise place.fault("path", "is missing, and so is 'video'")
    if isinstance(paths[0], list):
        return tuple(_medium([path], row, place) for path in paths[0])
    return (_medium(paths, row, place),)


def _medium(paths: list[Any], row: Mapping[str, Any], place: Place) -> ItemMedium:
    if not all(isinstance(path, str) for path in paths):
        raise place.fault("path", "is no path")
    return ItemMedium(tuple(dict.fromkeys(paths)), "image" if row.get("data_type") == "image" else "video")
