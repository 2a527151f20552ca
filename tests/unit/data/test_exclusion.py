"""Rows that a file of duplicates names are left out, and counted; a file of other rows is refused."""

import json
from pathlib import Path

import pytest

from ktr.data.dataset import QuestionDataset
from ktr.errors import ConfigError, MissingData


@pytest.fixture
def load(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    row = {"problem": "?", "problem_type": "free-form", "solution": "x", "path": "a.mp4"}
    (tmp_path / "rows.json").write_text(json.dumps([row | {"problem_id": n % 3} for n in range(5)]))

    def read(*lines: object) -> QuestionDataset:
        (tmp_path / "duplicates.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return QuestionDataset(tmp_path / "rows.json", tmp_path, exclude=tmp_path / "duplicates.jsonl")

    return read


def line(index: int, id: str, file: str = "/elsewhere/rows.json") -> dict[str, object]:
    return {"id": id, "file": file, "index": index, "benchmark": "mmvu", "item": "v_1", "kinds": ["same_file"]}


def test_each_row_that_is_named_is_one_skip_of_its_own_kind(load):
    data = load(line(1, "1"), line(4, "1"), line(0, "0", file="other.json"))
    assert [question.id for question in data.questions] == ["0", "2", "0#3"]
    assert [(skip.row, skip.kind, skip.stage) for skip in data.skips] == [
        (1, "Duplicate", "rows"), (4, "Duplicate", "rows")
    ]  # fmt: skip
    assert "row 1: it is one of mmvu, item v_1 (same_file); drop it from" in data.skips[0].reason


def test_a_file_that_names_nothing_changes_nothing(load):
    assert len(load()) == 5 and load().skips == []


def test_a_file_of_other_rows_of_that_name_is_refused(load):
    with pytest.raises(ConfigError, match=r"row 1 is 7 there and 1 in .*rows\.json: .* run python -m ktr\.duplicates"):
        load(line(1, "7"))


@pytest.mark.parametrize("broken", [{"index": 1}, [1], "x"])
def test_a_line_that_names_no_row_is_refused(load, broken: object):
    with pytest.raises(ConfigError, match="line 2 names no row"):
        load(line(1, "1"), broken)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, load):
    load()
    with pytest.raises(MissingData, match=r"exclude=none\.jsonl: there is no such file; python -m ktr\.duplicates"):
        QuestionDataset(tmp_path / "rows.json", tmp_path, exclude="none.jsonl")


def test_another_file_of_the_same_name_is_not_meant(load, tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rows.json").write_text("[]")
    data = load(line(0, "7", file=str(tmp_path / "other" / "rows.json")), line(1, "1", str(tmp_path / "rows.json")))
    assert [skip.row for skip in data.skips] == [1]
