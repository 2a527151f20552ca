"""Several media in a row: their types, their order, and that each fault is one skip which names the medium."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ktr.data.dataset import QuestionDataset
from ktr.data.prompts import PromptTemplate
from ktr.data.row_media import MARKER, prompt_order
from ktr.errors import MissingData
from ktr.types import VideoQuestion

ROW = {"problem": "which is red ?", "problem_type": "free-form", "solution": "red"}
CHOICE = {"problem_type": "multiple choice", "solution": "A", "options": ["A. <audio>", "B. b"]}
FILES = ("a.mp4", "b.mp4", "c.png", "d.JPG", "e", "f.wav")


@pytest.fixture
def load(tmp_path: Path):
    for name in FILES:
        (tmp_path / name).write_bytes(b"x")

    def load(*rows: dict[str, Any]) -> QuestionDataset:
        (tmp_path / "rows.json").write_text(json.dumps([ROW | row for row in rows]))
        return QuestionDataset(tmp_path / "rows.json", tmp_path)

    return load


def shown(question: VideoQuestion) -> list[tuple[str, str]]:
    return [(file.path.name, file.kind) for file in question.media]


@pytest.mark.parametrize(
    "row",
    [
        {"path": ["a.mp4", "c.png"]},
        {"path": ["a.mp4", "c.png"], "data_type": ["video", "image"]},
        {"path": [{"path": "a.mp4", "type": "video"}, {"path": "c.png", "type": "image"}]},
        {"path": [{"path": "a.mp4"}, "c.png"]},
        {"path": ["a.mp4", {"path": "c.png", "type": "image"}], "data_type": "video"},
        {"video": ["a.mp4", "c.png"]},
        {"path": ["c.png", "a.mp4"], "problem": "<video> or <image> ?"},
    ],
)
def test_each_way_to_type_media_gives_the_same_question(row: dict[str, Any], load):
    (question,) = load(row).questions
    assert shown(question) == [("a.mp4", "video"), ("c.png", "image")]


def test_a_single_medium_may_stand_in_a_list_and_the_ending_says_what_nothing_else_says(load):
    rows = [{"path": "a.mp4"}, {"path": ["a.mp4"]}, {"path": ["d.JPG"]}, {"path": {"path": "e", "type": "image"}}]
    questions = load(*rows, {"path": ["e"]}, {"path": ["c.png"], "data_type": "video"}, {"path": "c.png"}).questions
    assert [shown(question) for question in questions] == [
        [("a.mp4", "video")], [("a.mp4", "video")], [("d.JPG", "image")], [("e", "image")], [("e", "video")],
        [("c.png", "video")], [("c.png", "video")],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        ({"path": []}, "MalformedRow", "its list of media is empty"),
        ({"path": ["a.mp4", "none.mp4", "c.png"]}, "MissingMedia", "none.mp4"),
        ({"path": ["a.mp4", "../x.mp4"]}, "MediaOutsideRoot", "x.mp4"),
        ({"path": ["a.mp4", 7]}, "MalformedRow", "path[1] is of type int"),
        ({"path": ["a.mp4", None]}, "MalformedRow", "path[1] is of type NoneType"),
        ({"path": ["a.mp4", ["b.mp4"]]}, "MalformedRow", "path[1] is of type list"),
        ({"path": ["a.mp4", ""]}, "MalformedRow", "path[1] is no path"),
        ({"path": ["a\0.mp4", "b.mp4"]}, "MalformedRow", "path[0] is no path"),
        ({"path": [{"type": "video"}]}, "MalformedRow", "path is of type NoneType"),
        ({"path": [{"path": "a.mp4", "start": 3}]}, "MalformedRow", "'start'"),
        ({"path": ["a.mp4", {"path": "b.mp4", "type": "film"}]}, "UnknownDataType", "path[1].type 'film'"),
        ({"path": ["a.mp4", {"path": "b.mp4", "type": None}]}, "UnknownDataType", "path[1].type None"),
        ({"path": ["a.mp4", "b.mp4"], "data_type": ["video"]}, "UnknownDataType", "1 types for 2 media"),
        ({"path": ["a.mp4", "b.mp4"], "data_type": ["video", 5]}, "UnknownDataType", "data_type 5"),
        ({"path": "a.mp4", "data_type": ["video", "image"]}, "UnknownDataType", "2 types for 1 media"),
        ({"path": "a.mp4", "data_type": {}}, "UnknownDataType", "data_type {}"),
        ({"path": ["a.mp4", "f.wav"]}, "UnknownDataType", "path[1] is 'f.wav', and sound stays out"),
        ({"path": "a.mp4", "data_type": "audio"}, "UnknownDataType", "sound stays out"),
        ({"path": "a.mp4", "audios": ["f.wav"]}, "UnknownDataType", "audios is 'f.wav', and sound stays out"),
        ({"path": "a.mp4", "problem": "<audio> what ?"}, "UnknownDataType", "<audio>, and sound stays out"),
        (
            {"path": "a.mp4", "options": ["A. <audio>", "B. b"], **CHOICE},
            "UnknownDataType",
            "<audio>, and sound stays out",
        ),
        ({"path": "a.mp4", "problem": "<video> or <video> ?"}, "MisplacedMedia", "2 <video>, and 1"),
        ({"path": ["a.mp4", "b.mp4"], "problem": "in <video> ?"}, "MisplacedMedia", "1 <video>, and 2"),
        ({"path": "a.mp4", "problem": "in <image> ?"}, "MisplacedMedia", "0 <video>, and 1"),
        ({"path": ["a.mp4", "c.png"], "problem": "in <video> ?"}, "MisplacedMedia", "0 <image>, and 1"),
    ],
)
def test_a_fault_is_one_skip_that_names_what_is_wrong(row: dict[str, Any], kind: str, said: str, load):
    (skip,) = load({"path": "a.mp4"}, row).skips
    assert skip.kind == kind and said in skip.reason and skip.row == 1


def test_what_a_row_says_of_sound_in_words_of_its_own_is_no_sound(load):
    assert len(load({"path": "a.mp4", "audio": "loud", "audios": True}).questions) == 1
    with pytest.raises(MissingData, match="sound stays out"):
        load({"path": "f.wav"})


@pytest.mark.parametrize("seed", range(200))
def test_media_stand_where_the_markers_are_whatever_the_text(seed: int, load):
    """Read back from the messages, the text is the row's and the n-th video its n-th ``<video>``."""
    draw = random.Random(seed)
    kinds = draw.choices(["video", "image"], k=draw.randint(1, 6))
    listed = [{"path": f"{i}", "type": kind} for i, kind in enumerate(kinds)]
    words = ["which", " ", "\n", "< video>", "<Image>", "<videos>", "?", "<|", "é"]
    markers = draw.sample(kinds, len(kinds)) if draw.random() < 0.8 else []
    parts = ["".join(draw.choices(words[:7], k=draw.randint(0, 4))) for _ in range(len(markers) + 1)]
    text = parts[0] + "".join(f"<{kind}>{part}" for kind, part in zip(markers, parts[1:], strict=True)) or "?"
    order = prompt_order([one["type"] for one in listed], text)
    assert sorted(order) == list(range(len(kinds)))
    assert [kinds[place] for place in order] == (MARKER.findall(text) or kinds)
    for kind in ("video", "image"):
        of_kind = [place for place in order if kinds[place] == kind]
        assert of_kind == sorted(of_kind)


@pytest.mark.parametrize(
    ("problem", "options", "content"),
    [
        ("why ?", (), ["video", "image", "why ?\nRule"]),
        ("<video> why ?", (), ["video", " why ?\nRule"]),
        ("Is <image>\nin <video>", (), ["Is ", "image", "\nin ", "video", "\nRule"]),
        ("<video><image>", (), ["video", "image", "\nRule"]),
        ("Which ?", ("A. <image>", "B. <video>"), ["Which ?\nOptions:\nA. ", "image", "\nB. ", "video", "\nRule"]),
    ],
)
def test_messages_hold_media_and_texts_in_the_prompts_order(problem, options, content, load):
    row = {"problem": problem, "path": ["a.mp4", "c.png"] if "image" in content else "a.mp4"}
    if options:
        row |= {"options": list(options), "problem_type": "multiple choice", "solution": "A"}
    (question,) = load(row).questions
    (message,) = PromptTemplate("Rule", {}).messages(question)
    assert [part.get("text", part["type"]) for part in message["content"]] == content
