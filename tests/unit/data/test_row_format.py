"""Rows in a format of a user's own: their function's faults are skips, and what is no such function is one sentence."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ktr.data.dataset import QuestionDataset
from ktr.data.own_questions import OwnQuestions
from ktr.errors import ConfigError, MissingData

ROWS = [
    {"ask": "what color ?", "truth": "red", "clip": "a.mp4", "scene": 4},
    {"ask": "what shape ?", "clip": "a.mp4"},
    {"ask": "what size ?", "truth": "big", "clip": "../a.mp4"},
    {"ask": "how many ?", "truth": "two", "clip": "a.mp4", "type": "counting"},
    {"ask": " ", "truth": "two", "clip": "a.mp4"},
    ["what color ?", "blue", "a.mp4"],
    {"ask": "what color ?", "truth": None, "clip": "a.mp4"},
    None,
    "unreadable",
    "nothing",
]
NAME = f"{__name__}.fields"


class Unreadable(Exception):
    """An error of the user's own."""


def fields(row: Any) -> Any:
    if row == "unreadable":
        raise Unreadable("of no\nkind")
    if row == "nothing":
        return None
    if isinstance(row, list):
        return {"problem": row[0], "problem_type": "free-form", "solution": row[1], "path": row[2]}
    kind = row.get("type", "free-form")
    path = {"path": row["clip"]} | ({"scene": row["scene"]} if "scene" in row else {})
    return {"problem": row["ask"], "problem_type": kind, "solution": row["truth"], **path}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.mp4").write_bytes(b"x")
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n{broken")
    return tmp_path / "mine.jsonl"


@pytest.mark.parametrize("given", [fields, partial(fields), NAME])
def test_one_function_makes_questions_and_each_bad_row_is_one_typed_skip(given: Any, rows: Path):
    data = QuestionDataset(rows, rows.parent / "media", format=given)
    assert [(q.id, q.answer, q.extra) for q in data.questions] == [
        ("mine-0", "red", {"scene": 4}), ("mine-5", "blue", {})
    ]  # fmt: skip
    assert [(skip.row, skip.kind) for skip in data.skips] == [
        (1, "FormatFault"), (2, "MediaOutsideRoot"), (3, "UnknownProblemType"), (4, "MalformedRow"),
        (6, "MissingAnswer"), (7, "FormatFault"), (8, "FormatFault"), (9, "FormatFault"), (10, "MalformedRow"),
    ]  # fmt: skip
    said = [skip.reason for skip in data.skips]
    assert said[0].endswith(f"mine.jsonl, row 1: {NAME} raised KeyError: 'truth'; correct the row, or the function of "
                            "format")  # fmt: skip
    assert said[6].endswith(f"row 8: {NAME} raised Unreadable: of no; correct the row, or the function of format")
    assert f"row 9: {NAME} gave a NoneType, and no mapping of fields" in said[7]
    assert f"row 4: it has no problem, as {NAME} gives it" in said[3]
    own = OwnQuestions(rows=str(rows), media_root=str(rows.parent / "media"), format=given)
    assert [question.id for question in own.questions] == ["mine-0", "mine-5"]


def test_a_function_that_fails_at_every_row_is_named_with_what_it_raised(rows: Path):
    with pytest.raises(MissingData, match=r"none of its 11 rows is usable; the first: .*ValueError: all"):
        QuestionDataset(rows, rows.parent, format=always_wrong)


def always_wrong(row: Any) -> Any:
    raise ValueError("all of them")


def of_two(row: Any, index: int) -> Any: ...


def of_none() -> Any: ...


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            of_two,
            rf"format={__name__}\.of_two cannot be called with a row alone \(missing a required argument: 'index'",
        ),
        (f"{__name__}.of_none", r"of_none cannot be called with a row alone \(too many positional arguments\)"),
        (f"{__name__}.none", r"none: there is no such function \(.*no attribute 'none'\); give <module>\.<function>"),
        ("nowhere.rows.question", r"there is no such function \(No module named 'nowhere'\)"),
        (f"{__name__}.ROWS", r"ROWS is a list, and no function"),
        ("question", r"there is no such function \(No module named 'question'\)"),
    ],
)
def test_what_is_no_function_of_a_row_is_one_sentence(given: Any, said: str, rows: Path):
    assert __name__ in sys.modules
    with pytest.raises(ConfigError, match=said) as caught:
        QuestionDataset(rows, rows.parent / "media", format=given)
    assert "\n" not in str(caught.value)
