"""An item becomes a question that a prompt can be made of, whatever its text holds."""

import math
from pathlib import Path

import pytest

from ktr.data.prompts import PromptTemplate
from ktr.evaluation.asking.question import question_of
from ktr.evaluation.benchmarks.item import Item, ItemMedium
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.evaluation.rules.asked import Asked
from ktr.types import Clip

VIDEO, PICTURE, FRAMES = ItemMedium(("v/a.mp4",)), ItemMedium(("p.png",), "image"), ItemMedium(("f",), "frames")


@pytest.fixture
def finder(tmp_path: Path) -> MediaFinder:
    for name in ("v/a.mp4", "p.png", "f/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return MediaFinder(str(tmp_path))


def test_a_question_has_the_clip_the_media_and_the_options(finder: MediaFinder, tmp_path: Path):
    asked = Asked("B", options=("A. red", "B. blue"), question="What color?")
    question = question_of(Item("7", asked, (VIDEO, PICTURE), 2.0, None, "nth"), "mvbench", finder)
    assert [(file.path, file.kind) for file in question.media] == [
        (tmp_path / "v/a.mp4", "video"), (tmp_path / "p.png", "image")
    ]  # fmt: skip
    assert question.media[0].clip == Clip(2.0, math.inf) and question.media[1].clip == Clip()
    assert (question.id, question.category, question.source) == ("7", "nth", "mvbench")
    frames = question_of(Item("8", asked, (FRAMES,), 1.0, 3.0), "mvbench", finder)
    assert frames.media[0].path == tmp_path / "f" and frames.media[0].kind == "video"


@pytest.mark.parametrize(
    ("text", "kinds", "kept"),
    [
        ("<image> then <video>?", ["image", "video"], "<image> then <video>?"),
        ("<video> <video>?", ["video", "image"], "?"),  # more than there are
        ("<image 1> shows?", ["video", "image"], "<image 1> shows?"),
    ],
)
def test_markers_place_the_media_or_are_left_out(text: str, kinds: list[str], kept: str, finder: MediaFinder):
    question = question_of(Item("1", Asked("A", question=text), (VIDEO, PICTURE)), "own", finder)
    assert [file.kind for file in question.media] == kinds and question.problem == kept
    (message,) = PromptTemplate("", {}).messages(question)
    assert [part["type"] for part in message["content"] if part["type"] != "text"] == kinds


def test_yes_or_no_is_asked_for_in_words(finder: MediaFinder):
    item = Item("1", Asked("yes", "multiple choice", ("yes", "no"), question="Does it fall?"), (VIDEO,))
    question = question_of(item, "tempcompass", finder)
    assert question.problem == "Does it fall?\nAnswer yes or no." and question.options == ()
    assert "letter" not in str(PromptTemplate().messages(question))
