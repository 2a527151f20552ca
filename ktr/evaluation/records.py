"""Replies on disk, ktr's own or another project's: which field holds what is found by its name, or said."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktr.data.row_file import BrokenLine
from ktr.errors import ConfigError, MissingData, RowError
from ktr.evaluation.benchmarks.converted import TAGGED
from ktr.evaluation.benchmarks.files import annotation_files, documents
from ktr.evaluation.benchmarks.item import Place
from ktr.evaluation.benchmarks.options import some_options
from ktr.evaluation.rules.asked import Asked, ProblemType
from ktr.evaluation.rules.outcome import WITHOUT_REPLY, Outcome
from ktr.rewards.answers import parse_number

# What a field is called in the files of the field, likeliest first; also one level down, in an object of these names.
NAMES: Mapping[str, tuple[str, ...]] = {
    "output": ("output", "raw_output", "model_output", "response", "reply", "completion", "prediction", "pred"),
    "answer": ("solution", "ground_truth", "gt", "gt_answer", "answer", "Answer", "GT", "target", "label"),
    "id": ("id", "problem_id", "question_id", "Question ID", "qid", "doc_id", "idx", "index"),
    "options": ("options", "choices", "candidates", "Options"),
    "subtask": ("subtask", "original_question_type", "Question Type", "task_type", "question_type", "type", "task"),
    "type": ("problem_type", "question_type"),
    "question": ("problem", "question", "Question"),
    "video": ("path", "video", "video_id", "video ID", "videoID"),
}
INSIDE = ("question", "item", "doc", "sample", "row", "input", "data")
LISTS = ("results", "items", "records", "data", "samples")
TYPES: Mapping[str, ProblemType] = {
    "multiple choice": "multiple choice", "multiple-choice": "multiple choice", "numerical": "numerical",
    "regression": "regression", "ocr": "OCR", "free-form": "free-form", "open-ended": "free-form",
}  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """One reply: None where there is none, and ``outcome`` then says why."""

    id: str | None
    text: str | None
    asked: Asked
    subtask: str = ""
    video: str = ""
    cut_off: bool = False
    outcome: Outcome | None = None


@dataclass
class Replies:
    """The replies of a file, of records that are the same item the last; and what else is to be said of it."""

    replies: list[Reply] = field(default_factory=list)
    duplicates: int = 0
    shared_ids: int = 0  # ids that different questions have
    skips: list[str] = field(default_factory=list)


def read_replies(path: Path, fields: Mapping[str, str | Sequence[str] | None]) -> Replies:
    """The replies in a file of records: JSON lines, a list, or an object with a list of them.

    ``fields`` says under which key a field of ``NAMES`` is, "question.problem_id" inside of another; several keys make
    an id together. Raises ``MissingData`` where the file cannot be read or has no record, and ``ConfigError`` where no
    record has a reply or an answer.
    """
    read, last = Replies(), dict[Any, Reply]()
    lacking: Counter[str] = Counter()
    total, keys = 0, list[str]()
    for file in annotation_files(path):
        for index, row in enumerate(_rows(file, fields)):
            total += 1
            place = Place(file, index)
            if isinstance(row, BrokenLine) or not isinstance(row, Mapping):
                read.skips.append(f"{file}, row {index}: {getattr(row, 'reason', 'it is no object')}")
                continue
            keys = keys or list(row)
            if lost := _lacks(row, fields):
                lacking[lost[0]] += 1
                read.skips.append(f"{file}, row {index}: it has no {lost[0]}")
                continue
            try:
                reply = _reply(row, fields, place)
            except RowError as error:
                read.skips.append(str(error))
                continue
            key = (file, index) if reply.id is None else (reply.id, reply.asked.question, reply.video)
            read.duplicates += key in last
            last.pop(key, None)
            last[key] = reply
    if not last:
        if not total:
            raise MissingData(f"{path} holds no record")
        name = lacking.most_common(1)[0][0] if lacking else "output"
        raise ConfigError(f"fields.{name}: no record of {path} has it; name one of its keys: {', '.join(keys)}")
    read.replies = list(last.values())
    ids = Counter(reply.id for reply in read.replies if reply.id is not None)
    read.shared_ids = sum(count > 1 for count in ids.values())
    return read


_ABSENT = object()


def _rows(file: Path, fields: Mapping[str, Any]) -> Iterator[Any]:
    for document in documents(file):
        inner = None
        if isinstance(document, Mapping) and _lacks(document, fields):  # a record's own "samples" are no records
            inner = next((document[key] for key in LISTS if key in document), None)
        yield from inner if isinstance(inner, list) else [document]


def _lacks(row: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
    """Which of the fields without which there is nothing to score a record does not have."""
    return [name for name in ("output", "answer") if _at(row, name, fields) is _ABSENT]


def _reply(row: Mapping[str, Any], fields: Mapping[str, Any], place: Place) -> Reply:
    text, answer = _at(row, "output", fields), _at(row, "answer", fields)
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    told = row.get("outcome")
    # An endpoint's own refusal has no text, and counts; what a text says is for the rule.
    lasting = WITHOUT_REPLY if isinstance(text, str) else (*WITHOUT_REPLY, Outcome.REFUSED)
    outcome = next((outcome for outcome in lasting if outcome == told), None)
    if not isinstance(text, str):
        outcome, text = outcome or Outcome.FAILED, None
    return Reply(
        _id(row, fields),
        text,
        _asked(row, answer, fields, place),
        _text(row, "subtask", fields),
        _text(row, "video", fields),
        row.get("finish_reason") == "length",
        outcome,
    )


def _asked(row: Mapping[str, Any], answer: Any, fields: Mapping[str, Any], place: Place) -> Asked:
    if isinstance(answer, list):
        answer = ",".join(map(str, answer))
    answer = "" if answer is None else str(answer)
    tagged = TAGGED.search(answer)
    answer = (tagged.group(1) if tagged else answer).strip()
    if not answer:
        raise place.fault("answer", "is empty")
    found = _at(row, "options", fields)
    options = () if found is _ABSENT else some_options({"options": found}, "options", place)
    kind = TYPES.get(_text(row, "type", fields).lower()) or _kind(options, answer)
    written = row.get("written")
    return Asked(answer, kind, options, written if isinstance(written, str) else "", _text(row, "question", fields))


def _kind(options: tuple[str, ...], answer: str) -> ProblemType:
    if options or re.fullmatch(r"\(?[A-Z]\)?(?:\s*,\s*\(?[A-Z]\)?)*", answer):
        return "multiple choice"
    return "free-form" if parse_number(answer) is None else "numerical"


def _id(row: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    said = fields.get("id")
    if said is not None and not isinstance(said, str):
        return "/".join(str(_under(row, key)) for key in said)
    found = _at(row, "id", fields)
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def _text(row: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> str:
    found = _at(row, name, fields)
    return found.strip() if isinstance(found, str) else str(found) if isinstance(found, int) else ""


def _at(row: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> Any:
    """The field of a record: where it is said to be, else under its first name that is there."""
    said = fields.get(name)
    if isinstance(said, str):
        return _under(row, said)
    inner = [row[key] for key in INSIDE if isinstance(row.get(key), Mapping)]
    for place in (row, *inner):
        for key in NAMES[name]:
            if key not in place:
                continue
            value = place[key]
            if name == "options" or (name == "output" and value is None) or not isinstance(value, Mapping | None):
                return value
    return None if name == "output" and "outcome" in row else _ABSENT


def _under(row: Any, key: str) -> Any:
    """The value at a key, or at keys with a period between them."""
    if isinstance(row, Mapping) and key in row:
        return row[key]
    first, _, rest = key.partition(".")
    return _under(row[first], rest) if rest and isinstance(row, Mapping) and first in row else _ABSENT
