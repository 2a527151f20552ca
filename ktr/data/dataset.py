"""Questions from annotation files in the Video-R1 format.

A row that cannot become a question is skipped under a typed kind, and the skip is kept in ``QuestionDataset.skips``
with the row's index and id. A file that gives no question at all is an error.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ktr import errors
from ktr.data.skips import Skip
from ktr.rewards.answers import parse_number
from ktr.types import PROBLEM_TYPES, VideoQuestion

KNOWN_KEYS = frozenset(
    {
        "problem_id",
        "problem",
        "data_type",
        "problem_type",
        "options",
        "process",
        "solution",
        "path",
        "video",
        "data_source",
        "original_question_type",
    }
)
SPECIAL_TOKEN = re.compile(r"<\|\w+\|>")
OPTION_LETTER = re.compile(r"\s*\(?([A-Z])[.):]")


class QuestionDataset(Dataset[VideoQuestion]):
    """The usable rows of a Video-R1 file (a JSON list, or JSON lines), in file order.

    Args:
        annotations: the file of rows.
        media_root: the folder that the rows' paths are relative to and must stay in, symbolic links resolved.
        limit: reads rows until so many are usable; all if None.
        how_to_get: one sentence on where the data comes from, for the error of who lacks it.

    Raises ``MissingData`` where the file or the folder is missing, the file is not JSON, or no row is usable.
    """

    def __init__(
        self, annotations: Path | str, media_root: Path | str, limit: int | None = None, how_to_get: str = ""
    ) -> None:
        self.annotations, self.media_root = Path(annotations), Path(media_root)
        for path in (self.annotations, self.media_root):
            if not path.exists():
                raise errors.MissingData(f"{path} does not exist. {how_to_get}".rstrip())
        root = self.media_root.resolve()
        self.questions: list[VideoQuestion] = []
        self.skips: list[Skip] = []
        for index, row in enumerate(read_rows(self.annotations)):
            if len(self.questions) == limit:
                break
            try:
                self.questions.append(question_from_row(row, self.annotations, index, root))
            except (errors.RowError, errors.MediaError) as error:
                self.skips.append(Skip.of_row(error, self.annotations, index, row_id(row, self.annotations, index)))
        if not self.questions:
            first = f"; the first: {self.skips[0].reason}" if self.skips else ""
            hint = f" {how_to_get}" if how_to_get else ""
            raise errors.MissingData(f"{self.annotations}: none of its {len(self.skips)} rows is usable{first}.{hint}")

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> VideoQuestion:
        return self.questions[index]


def read_rows(annotations: Path) -> list[Any]:
    """The rows of a JSON list, or of a file of JSON lines."""
    try:
        text = annotations.read_text(encoding="utf-8-sig").strip()
        if text.startswith("["):
            return json.loads(text)
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise errors.MissingData(f"{annotations} is not a JSON list: {error}; correct or fetch it again") from None
    rows = []
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise errors.MissingData(f"{annotations}, line {number} is not JSON: {error}; correct it") from None
    return rows


def row_id(row: Any, file: Path, index: int) -> str:
    if isinstance(row, Mapping) and row.get("problem_id") is not None:
        return str(row["problem_id"])
    return f"{file.stem}-{index}"


def question_from_row(row: Any, file: Path, index: int, root: Path) -> VideoQuestion:
    """Checks one row and turns it into a question. ``root`` is the resolved media root.

    Raises a ``RowError`` or, for the path, ``MissingMedia`` or ``MediaOutsideRoot``.
    """
    if not isinstance(row, Mapping):
        raise errors.MalformedRow(file, index, f"it is a {type(row).__name__}, not an object")
    problem = row.get("problem")
    if not isinstance(problem, str) or not problem.strip():
        raise errors.MalformedRow(file, index, "it has no problem")
    if special := SPECIAL_TOKEN.search(f"{problem} {row.get('options')}"):
        raise errors.MalformedRow(file, index, f"its text holds the special token {special.group()}")
    problem_type, data_type = row.get("problem_type"), row.get("data_type", "video")
    if problem_type not in PROBLEM_TYPES:
        raise errors.UnknownProblemType(file, index, f"problem_type {problem_type!r} is none of {PROBLEM_TYPES}")
    if data_type not in ("video", "image"):
        raise errors.UnknownDataType(file, index, f"data_type {data_type!r} is neither video nor image")
    answer = answer_of(row)
    if not answer:
        raise errors.MissingAnswer(file, index, "it has no solution, or an empty one")
    if problem_type in ("numerical", "regression") and parse_number(answer) is None:
        raise errors.UnreadableAnswer(file, index, f"the answer {answer!r} of a {problem_type} problem is no number")
    options = row.get("options") or []
    fault = options_fault(options, problem_type, answer)
    if fault:
        raise errors.BadOptions(file, index, fault)
    return VideoQuestion(
        id=row_id(row, file, index),
        problem=problem.strip(),
        problem_type=problem_type,
        answer=answer,
        media_path=contained_path(row, file, index, root),
        data_type=data_type,
        options=tuple(options),
        reasoning=reasoning_of(row),
        source=str(row.get("data_source") or ""),
        category=str(row.get("original_question_type") or ""),
        extra={key: value for key, value in row.items() if key not in KNOWN_KEYS},
    )


def answer_of(row: Mapping[str, Any]) -> str:
    """The bare answer: what stands inside the solution's ``<answer>`` tags, or the whole solution without tags."""
    solution = row.get("solution")
    if solution is None:
        return ""
    tagged = re.search(r"<answer>(.*?)</answer>", str(solution), re.DOTALL)
    return (tagged.group(1) if tagged else str(solution)).strip()


def reasoning_of(row: Mapping[str, Any]) -> str | None:
    """The text inside the process's ``<think>`` tags, or all of it without tags."""
    process = str(row.get("process") or "")
    tagged = re.search(r"<think>(.*?)</think>", process, re.DOTALL)
    return (tagged.group(1) if tagged else process).strip() or None


def options_fault(options: Any, problem_type: str, answer: str) -> str | None:
    """What is wrong with the options, if anything. Several answers are letters with commas between them."""
    if problem_type != "multiple choice":
        return f"a {problem_type} problem has options" if options else None
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options) or len(options) < 2:
        return "a multiple choice problem needs a list of at least two options"
    matches = [OPTION_LETTER.match(option) for option in options]
    letters = [match.group(1) for match in matches if match]
    if len(letters) < len(options) or len(set(letters)) < len(letters):
        return f'options must start with different letters, like "A. red": {options}'
    if not {letter.strip() for letter in answer.split(",")} <= set(letters):
        return f"the answer {answer!r} is none of the options' letters {letters}"
    return None


def contained_path(row: Mapping[str, Any], file: Path, index: int, root: Path) -> Path:
    """The row's media file, resolved, if it exists and lies inside the resolved media root."""
    relative = row.get("path") or row.get("video")
    if not isinstance(relative, str) or "\0" in relative:
        raise errors.MalformedRow(file, index, "it has no path of a video or image")
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError):  # a loop of symbolic links
        raise errors.MissingMedia(root / relative, "its symbolic links lead nowhere") from None
    if not path.is_relative_to(root):
        raise errors.MediaOutsideRoot(root / relative, f"it leads to {path}, outside the media root {root}")
    if not path.exists():
        raise errors.MissingMedia(path, "there is no such file")
    return path
