"""The published training files are read as they are: each kind of row that they hold becomes a question."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from ktr.config.composing import compose
from ktr.types import VideoQuestion

OF_260K: list[dict[str, Any]] = [
    {"problem_id": 1, "problem": "What does the cylinder do?", "data_type": "image", "problem_type": "multiple choice",
     "options": ["A) It turns", "B) It weighs", "C) It holds", "D) It shines"], "solution": "<answer>D</answer>",
     "path": "./Knowledge/ArxivQA/images/1.jpg", "data_source": ""},
    {"problem_id": 2, "problem": "What is on the screen?", "data_type": "video", "problem_type": "multiple choice",
     "options": ["A. A note.", "B. An order."], "solution": "<answer>A</answer>",
     "path": "./LLaVA-Video-178K/clips/2.mp4", "data_source": "LLaVA-Video-178K/30_60_s_youtube_v0_1"},
    {"problem_id": 3, "problem": "How many move?", "data_type": "video", "problem_type": "numerical", "options": [],
     "solution": "<answer>3</answer>", "path": "./CLEVRER/video_validation/3.mp4", "data_source": "CLEVRER"},
    {"problem_id": 4, "problem": "Read it.", "data_type": "image", "problem_type": "OCR", "options": [],
     "solution": "<answer>a + b</answer>", "path": "./OCR/HME100K/4.jpg", "data_source": "HME100K"},
    {"problem_id": 5, "problem": "How far is it?", "data_type": "image", "problem_type": "regression", "options": [],
     "solution": "<answer>2.50</answer>", "path": "./Spatial/5.jpg", "data_source": "OpenSpaces"},
    {"problem_id": 6, "problem": "What happens?", "data_type": "video", "problem_type": "free-form", "options": [],
     "solution": "<answer>A man cooks.</answer>", "path": "./STAR/6.mp4", "data_source": "STAR"},
]  # fmt: skip
OF_HOLMES: list[dict[str, Any]] = [
    {"video ID": "aB_1-x", "Question ID": "1", "Question Type": kind, "Question": "Who is it?",
     "Options": dict(zip("ABCDEF", ("a friend", "a foe", "a ghost", "her", "him", "nobody"))), "Answer": "F",
     "Explanation": "He is alone."}
    for kind in ("SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI")
]  # fmt: skip
for _number, _row in enumerate(OF_HOLMES):
    _row["Question ID"] = str(_number)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the files of both sets where their ``how_to_get`` puts them."""
    (tmp_path / "Video-R1-data").mkdir()
    (tmp_path / "Video-Holmes" / "videos_cropped").mkdir(parents=True)
    for row in OF_260K:
        file = tmp_path / "Video-R1-data" / row["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    (tmp_path / "Video-Holmes" / "videos_cropped" / "aB_1-x.mp4").write_bytes(b"x")
    (tmp_path / "Video-R1-data" / "Video-R1-260k.json").write_text(json.dumps(OF_260K))
    thought = [row | {"process": "<think>\nI see.\n</think>"} for row in OF_260K]
    (tmp_path / "Video-R1-data" / "Video-R1-COT-165k.json").write_text(json.dumps(thought))
    for split in ("train", "test"):
        (tmp_path / "Video-Holmes" / f"{split}_Video-Holmes.json").write_text(json.dumps(OF_HOLMES))
    return tmp_path


def questions(data: Path, name: str, *more: str, part: str = "train") -> list[VideoQuestion]:
    dataset = instantiate(compose("train", [f"data={name}", f"paths.data={data}", *more]).data[part])
    assert dataset.skips == []
    return dataset.questions


def test_video_r1_260k(data: Path):
    read = questions(data, "video_r1_260k")
    assert [question.answer for question in read] == ["D", "A", "3", "a + b", "2.50", "A man cooks."]
    assert [len(question.options) for question in read] == [4, 2, 0, 0, 0, 0]
    assert [question.media[0].kind for question in read] == ["image", "video", "video", "image", "image", "video"]
    assert read[1].media[0].path == data.resolve() / "Video-R1-data/LLaVA-Video-178K/clips/2.mp4"
    assert {question.reasoning for question in read} == {None}


def test_the_reasoning_of_video_r1_cot_165k_is_kept(data: Path):
    assert {question.reasoning for question in questions(data, "video_r1_cot_165k")} == {"I see."}


@pytest.mark.parametrize(("name", "part"), [("video_holmes_train", "train"), ("video_r1_260k", "validation")])
def test_video_holmes(data: Path, name: str, part: str):
    read = questions(data, name, part=part)
    assert [question.id for question in read] == [f"aB_1-x-{number}" for number in range(7)]
    assert [question.category for question in read] == ["SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI"]
    first = read[0]
    assert first.problem_type == "multiple choice" and first.options[5] == "F. nobody" and first.answer == "F"
    assert first.media[0].path.name == "aB_1-x.mp4" and first.source == "Video-Holmes"
    assert first.extra == {"explanation": "He is alone."} and first.reasoning is None


def test_video_holmes_in_the_video_r1_format_is_left_as_it_is(data: Path):
    row = {"problem": "Who?", "problem_type": "free-form", "solution": "he", "path": "aB_1-x.mp4", "problem_id": 9}
    (data / "Video-Holmes" / "train_Video-Holmes.json").write_text(json.dumps([row]))
    assert [question.id for question in questions(data, "video_holmes_train")] == ["9"]


def test_a_row_of_video_holmes_that_lacks_a_field_is_a_skip_that_names_it(data: Path):
    rows = [*OF_HOLMES, {key: value for key, value in OF_HOLMES[0].items() if key != "Options"}]
    (data / "Video-Holmes" / "train_Video-Holmes.json").write_text(json.dumps(rows))
    dataset = instantiate(compose("train", ["data=video_holmes_train", f"paths.data={data}"]).data.train)
    (skip,) = dataset.skips
    assert (skip.row, skip.kind) == (7, "FormatFault") and "raised KeyError: 'Options'" in skip.reason


def test_the_mixture_of_the_released_run_has_its_counts(data: Path):
    config = compose("train", ["data=video_r1_holmes_16k", f"paths.data={data}"])
    taken = config.data.train.take.video_r1
    assert (taken.image, taken.video + 1551, taken.image + taken.video + 1551) == (8765, 8151, 16916)
    read = questions(data, "video_r1_holmes_16k", "data.train.take.video_r1={video: 2, image: 1}")
    kinds = [(question.id.partition(":")[0], question.media[0].kind) for question in read]
    assert sorted(kinds[:3]) == [("video_r1", "image"), ("video_r1", "video"), ("video_r1", "video")]
    assert [question.id for question in read[3:]] == [f"video_holmes:aB_1-x-{number}" for number in range(7)]
