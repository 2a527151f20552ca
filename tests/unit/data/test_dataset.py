"""Rows become questions; a faulty row is a typed, kept skip; a useless file is an error."""

import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ktr.config.requirements import require_data
from ktr.data.dataset import QuestionDataset
from ktr.data.image import read_image
from ktr.data.own_questions import OwnQuestions
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import ConfigError, CorruptMedia, MissingData
from ktr.types import MediaFile

ROW = {
    "problem_id": 7,
    "problem": "what moved first ?",
    "data_type": "video",
    "problem_type": "free-form",
    "options": None,
    "process": "<think>the red one</think>",
    "solution": "<answer>red ball</answer>",
    "path": "./a.mp4",
    "data_source": "world",
    "original_question_type": "order",
}
CHOICE = {"problem_type": "multiple choice", "options": ["A. red", "B. blue"], "solution": "<answer>B</answer>"}

CHOSEN = ROW | CHOICE | {"problem_id": 8}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"x")
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "inner.mp4").symlink_to(root / "a.mp4")
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    return root


def load(root: Path, rows: list, **options) -> QuestionDataset:
    file = root.parent / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return QuestionDataset(file, root, **options)


def test_a_row_becomes_a_question_and_unknown_keys_are_kept(root):
    (question,) = load(root, [ROW | {"tags": {"order": [3]}}])
    assert (question.id, question.problem, question.answer) == ("7", "what moved first ?", "red ball")
    assert question.reasoning == "the red one" and question.options == ()
    assert question.media == (MediaFile((root / "a.mp4").resolve(), "video"),)
    assert (question.source, question.category, question.extra) == ("world", "order", {"tags": {"order": [3]}})


def test_video_is_another_name_for_path_and_a_link_inside_the_root_is_fine(root):
    rows = [ROW | {"path": None, "video": "a.mp4"}, ROW | {"problem_id": 8, "path": "inner.mp4"}]
    assert [question.media[0].path.name for question in load(root, rows)] == ["a.mp4", "a.mp4"]


def test_a_list_and_json_lines_give_the_same_questions(root, tmp_path):
    lines = tmp_path / "rows.jsonl"
    lines.write_text(json.dumps(ROW) + "\n\n" + json.dumps(CHOSEN) + "\n", encoding="utf-8")
    assert QuestionDataset(lines, root).questions == load(root, [ROW, CHOSEN]).questions


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"solution": None}, "MissingAnswer"),
        ({"solution": "<answer> </answer>"}, "MissingAnswer"),
        ({"problem": " "}, "MalformedRow"),
        ({"problem": "what is <|video_pad|> ?"}, "MalformedRow"),
        ({"problem_type": "open"}, "UnknownProblemType"),
        ({"problem_type": None}, "UnknownProblemType"),
        ({"problem_type": ["OCR"]}, "UnknownProblemType"),
        ({"data_type": "audio"}, "UnknownDataType"),
        ({"options": ["A. red", "B. blue"]}, "BadOptions"),
        (CHOICE | {"options": None}, "BadOptions"),
        (CHOICE | {"options": []}, "BadOptions"),
        (CHOICE | {"options": ["A. red"], "solution": "A"}, "BadOptions"),
        (CHOICE | {"options": "A. red B. blue"}, "BadOptions"),
        (CHOICE | {"options": ["red", "blue"]}, "BadOptions"),
        (CHOICE | {"options": ["A. red", "A. blue"], "solution": "A"}, "BadOptions"),
        (CHOICE | {"solution": "C"}, "BadOptions"),
        (CHOICE | {"solution": "b"}, "BadOptions"),
        (CHOICE | {"solution": "blue"}, "BadOptions"),
        ({"problem_type": "numerical", "solution": "many"}, "UnreadableAnswer"),
        ({"problem_type": "regression", "solution": "nan"}, "UnreadableAnswer"),
        ({"problem_type": "regression", "solution": 10**400}, "UnreadableAnswer"),
        (CHOICE | {"options": {}}, "BadOptions"),
        (CHOICE | {"options": ["A. red", 5]}, "BadOptions"),
        (CHOICE | {"options": ["A. red", True]}, "BadOptions"),
        (CHOICE | {"options": [["A. red", "B. blue"]]}, "BadOptions"),
        (CHOICE | {"options": ["A. red", "B. "]}, "BadOptions"),
        (CHOICE | {"options": ["A. red", "B. red"]}, "BadOptions"),
        (CHOICE | {"solution": "B, B"}, "BadOptions"),
        ({"options": ""}, "BadOptions"),
        ({"options": 0}, "BadOptions"),
        ({"problem": 5}, "MalformedRow"),
        ({"problem": ["what ?"]}, "MalformedRow"),
        ({"problem_id": True}, "MalformedRow"),
        ({"problem_id": 1.5}, "MalformedRow"),
        ({"problem_id": ""}, "MalformedRow"),
        ({"solution": True}, "MalformedRow"),
        ({"solution": float("nan")}, "MalformedRow"),
        ({"solution": -float("inf")}, "MalformedRow"),
        ({"solution": ["B"]}, "MalformedRow"),
        ({"solution": "<answer>red"}, "MalformedRow"),
        ({"solution": "<answer>red</answer><answer>blue</answer>"}, "MalformedRow"),
        ({"solution": "red <|im_end|>"}, "MalformedRow"),
        ({"process": "<think>a <|video_pad|></think>"}, "MalformedRow"),
        ({"process": "<think>never ends"}, "MalformedRow"),
        ({"process": "<think>a<answer>b</answer></think>"}, "MalformedRow"),
        ({"process": 5}, "MalformedRow"),
        ({"data_source": 5}, "MalformedRow"),
        ({"original_question_type": {}}, "MalformedRow"),
        ({"data_type": None}, "UnknownDataType"),
        ({"problem": "what \ud800 ?"}, "MalformedRow"),
        ({"solution": "\udfff"}, "MalformedRow"),
        ({"path": "\ud800.mp4"}, "MalformedRow"),
        ({"tags": [{"deep": "\ud800"}]}, "MalformedRow"),
        ({"\ud800": 1}, "MalformedRow"),
        ({"path": 5}, "MalformedRow"),
        ({"path": "x" * 300 + ".mp4"}, "MissingMedia"),
        ({"path": "x/" * 5000 + "a.mp4"}, "MissingMedia"),
        ({"path": "."}, "MediaOutsideRoot"),
        ({"path": "folder"}, "CorruptMedia"),
        ({"path": "pipe.mp4"}, "CorruptMedia"),
        ({"path": "a.mp4/b.mp4"}, "MissingMedia"),
        ({"path": None}, "MalformedRow"),
        ({"path": "a\0.mp4"}, "MalformedRow"),
        ({"path": "none.mp4"}, "MissingMedia"),
        ({"path": "loop.mp4"}, "MissingMedia"),
        ({"path": "../secret.mp4"}, "MediaOutsideRoot"),
        ({"path": "/etc/passwd"}, "MediaOutsideRoot"),
        ({"path": "link.mp4"}, "MediaOutsideRoot"),
        ({"path": "x/../../secret.mp4"}, "MediaOutsideRoot"),
    ],
)
def test_a_faulty_row_is_one_skip_of_its_kind_between_good_rows(change, kind, root):
    dataset = load(root, [ROW, ROW | {"problem_id": "bad"} | change, ROW | {"problem_id": 9}])
    assert [question.id for question in dataset] == ["7", "9"]
    (skip,) = dataset.skips
    own = change.get("problem_id", "bad")
    assert (skip.stage, skip.kind, skip.row) == ("rows", kind, 1)
    assert skip.id == ("rows-1" if own in (True, 1.5, "") else str(own))
    assert skip.source.endswith("rows.json") and skip.reason.encode()


def test_a_row_that_is_no_object_is_skipped_under_an_id_made_for_it(root):
    dataset = load(root, [ROW, "text", None])
    assert [(skip.kind, skip.id) for skip in dataset.skips] == [("MalformedRow", "rows-1"), ("MalformedRow", "rows-2")]


def test_several_right_letters_are_an_answer(root):
    (question,) = load(root, [ROW | CHOICE | {"solution": "<answer>A, B</answer>"}])
    assert question.answer == "A, B"


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("written", ["42", "-3", "0", "4.50", "1E3", "0.1000000000000000055511", "1" * 20])
def test_an_answer_that_is_a_number_is_the_text_that_the_file_has(written, name, root):
    row = json.dumps(ROW | {"problem_type": "numerical", "solution": "?"}).replace('"?"', written)
    (root.parent / name).write_text(f"[{row}]" if name == "rows.json" else row)
    (question,) = QuestionDataset(root.parent / name, root)
    assert question.answer == written


def test_the_limit_counts_usable_rows(root):
    rows = [ROW | {"problem_id": index} for index in range(4)]
    dataset = load(root, [rows[0], ROW | {"solution": ""}, *rows[1:]], limit=2)
    assert (len(dataset), len(dataset.skips)) == (2, 1)
    for none in (0, -1):
        with pytest.raises(ConfigError, match=f"limit={none}: .*null for all"):
            load(root, rows, limit=none)


def test_paths_of_a_config_may_start_at_the_users_home(root, tmp_path, monkeypatch):
    """No shell has put it there: a key with a dot is no variable, and a file of YAML no command line."""
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))
    monkeypatch.setenv("HOME", str(tmp_path))
    data = {"_target_": "ktr.data.dataset.QuestionDataset", "annotations": "~/rows.json", "media_root": "~/media"}
    require_data(OmegaConf.create(data), "data.train")
    assert len(QuestionDataset(data["annotations"], data["media_root"])) == 1
    assert len(OwnQuestions(rows="~/rows.json", media_root="~/media")) == 1


@pytest.mark.parametrize("content", ["", "[]", "[{", "not json", '{"a": 1}\n{', "[null]", '"text"', "\ufeff[]"])
def test_a_file_without_a_usable_row_is_an_error_that_names_it(content, root, tmp_path):
    file = tmp_path / "broken.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(MissingData, match=r"broken\.json"):
        QuestionDataset(file, root)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.parquet", b"PAR1\x15\x04\n\x15", r"is a Parquet file.*to_json\('.*rows\.jsonl', orient='records'"),
        ("rows.json", POINTER.encode(), r"rows\.json is a pointer of Git LFS.*git lfs pull"),
    ],
)
def test_what_a_hub_gives_in_place_of_rows_is_called_by_its_name(name, content, said, root, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MissingData, match=said):
        QuestionDataset(tmp_path / name, root)


@pytest.mark.parametrize("read", [lambda file: VideoReader(VideoSettings(2, 784, 784)).read(file), read_image])
def test_media_that_git_left_where_they_were_are_called_so(read, tmp_path):
    (tmp_path / "pointer").write_text(POINTER)
    with pytest.raises(CorruptMedia, match="git lfs pull"):
        read(tmp_path / "pointer")


def test_bytes_that_are_no_text_are_an_error(root, tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(MissingData, match=r"bytes\.json"):
        QuestionDataset(tmp_path / "bytes.json", root)


def test_a_missing_file_or_folder_is_named_with_the_way_to_get_it(root, tmp_path):
    with pytest.raises(MissingData, match=r"none\.json does not exist\. Fetch it from the hub\."):
        QuestionDataset(tmp_path / "none.json", root, how_to_get="Fetch it from the hub.")
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([ROW]))
    with pytest.raises(MissingData, match="elsewhere"):
        QuestionDataset(file, tmp_path / "elsewhere")


def test_when_no_media_is_there_the_error_says_so_and_how_to_get_it(root):
    with pytest.raises(MissingData, match=r"none of its 2 rows is usable.*gone\.mp4.*Fetch it\."):
        load(root, [ROW | {"path": "gone.mp4"}] * 2, how_to_get="Fetch it.")


def test_json_lines_end_at_a_line_feed_only_and_may_start_with_a_byte_order_mark(root: Path):
    """U+2028 and its like are letters of a string, whatever an editor shows."""
    problems = ["one\u2028two ?", "three\u0085four ?", "five\x0bsix ?"]
    file = root.parent / "rows.jsonl"
    lines = [
        json.dumps({**ROW, "problem_id": index, "problem": problem}, ensure_ascii=False)
        for index, problem in enumerate(problems)
    ]
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    assert [question.problem for question in QuestionDataset(file, root).questions] == problems


@pytest.mark.parametrize(
    "line", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"problem_id": ' + b"9" * 5000 + b"}", b"NaN", b"[]"]
)
def test_a_line_that_is_no_row_is_one_skip_between_good_rows(line, root: Path):
    file = root.parent / "rows.jsonl"
    file.write_bytes(b"\n".join([line, json.dumps(ROW).encode(), line, json.dumps(CHOSEN).encode(), line]))
    dataset = QuestionDataset(file, root)
    assert [question.id for question in dataset] == ["7", "8"]
    assert [(skip.kind, skip.row) for skip in dataset.skips] == [("MalformedRow", row) for row in (0, 2, 4)]


@pytest.mark.parametrize("end", ["", ",]", "] x", ' {"problem": 1}]', "]]"])
def test_a_list_that_is_broken_at_its_end_is_an_error(end, root: Path):
    file = root.parent / "rows.json"
    file.write_text(f"[{json.dumps(ROW)}{end}")
    with pytest.raises(MissingData, match=r"rows\.json is not a JSON list, at row 1"):
        QuestionDataset(file, root)


def test_a_folder_of_that_name_is_no_file_of_rows(root: Path):
    with pytest.raises(MissingData, match="cannot be read"):
        QuestionDataset(root, root)


def test_rows_of_one_id_are_kept_apart(root: Path):
    """Files that each count from 0 are put together."""
    rows = [ROW | {"problem_id": number} for number in (7, 8, 7, 7)]
    (root / "twice.json").write_text(json.dumps(rows))
    data = QuestionDataset(root / "twice.json", root)
    assert [question.id for question in data.questions] == ["7", "8", "7#2", "7#3"] and not data.skips
