"""wrong.html: what was not right, bounded, each item once, and nothing of a row or a reply is taken for markup."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from ktr.data.video import VideoReader
from ktr.errors import MissingData
from ktr.evaluation.reports.answers_page import MAX_ITEMS, choose, counts, write_answers_page
from ktr.evaluation.reports.shown_items import in_turn, shown_item, strips_of
from ktr.report import main
from ktr.shapes.video_file import write_video
from tests.evaluation_folder import item_line, write_evaluation

EVIL = '</section><script>alert("1")</script>'


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Eight frames, one a second, each brighter than the one before."""
    frames_FHWC = np.stack([np.full((28, 28, 3), 30 * shade, np.uint8) for shade in range(8)])
    path = tmp_path / "clip.mp4"
    write_video(frames_FHWC, path, fps=1.0)
    return path


def test_items_are_chosen_of_each_outcome_and_subtask_in_turn():
    lines = [item_line(n, "wrong", f"task {n % 4}") for n in range(200)]
    lines += [item_line(n, "unparsable", "task 0") for n in range(200, 230)] + [item_line(230, "failed")]
    lines += [item_line(n) for n in range(231, 300)]
    chosen = choose(lines)
    by_outcome = {
        name: [line for line in chosen if line["outcome"] == name] for name in ("wrong", "unparsable", "failed")
    }
    assert len(chosen) == MAX_ITEMS and {name: len(of) for name, of in by_outcome.items()} == {
        "wrong": 30, "unparsable": 29, "failed": 1,
    }  # fmt: skip
    subtasks = [line["subtask"] for line in by_outcome["wrong"]]
    assert {subtasks.count(f"task {n}") for n in range(4)} == {7, 8}
    assert chosen == sorted(chosen, key=lambda line: int(line["id"]))
    assert in_turn(["ab", "", "cde"]) == list("acbde") and in_turn([]) == []


def test_all_items_are_counted_by_outcome_and_subtask():
    lines = [
        item_line(0, "right", "a"),
        item_line(1, "wrong", "b"),
        item_line(2, "wrong", "a"),
        item_line(3, "cut_off", "a"),
    ]
    outcomes, rows = counts(lines)
    assert outcomes == ["right", "wrong", "cut_off"]
    assert rows == [("a", [1, 1, 1, 3]), ("b", [0, 1, 0, 1]), ("all", [1, 2, 1, 4])]
    assert counts(lines[:1])[1] == [("all", [1, 1])]


def test_the_right_option_and_the_one_that_was_named_are_marked():
    options = shown_item({"answered": item_line(0, "wrong")}, {}, ()).options
    assert [(option.is_right, option.chosen_by) for option in options] == [(True, ()), (False, ("answered",))]
    by_text = shown_item({"a": item_line(0, prediction="blue"), "b": item_line(0, prediction=None)}, {}, ()).options
    assert [option.chosen_by for option in by_text] == [(), ("a",)]
    assert shown_item({"answered": item_line(0, options=[], answer="white")}, {}, ()).options == ()


def test_a_page_takes_no_text_for_markup_and_is_built_from_the_folder_alone(tmp_path: Path, capsys):
    texts = {"question": EVIL, "options": [f"A. {EVIL}", "B. blue"], "output": EVIL, "prediction": EVIL, "reason": EVIL}
    lines = [
        item_line(
            0,
            "wrong",
            'x" onload="',
            **texts,
            rounds=[{"num_frames": 8, "predictions": [EVIL, None], "outputs": [EVIL]}],
        ),
        item_line(1, "wrong", id=EVIL, video=EVIL, answer=EVIL, media=EVIL, data_type="video"),
        item_line(2, "media_missing", output=None),
        item_line(
            3, "wrong", output="half a pair \ud800", groups={"by": EVIL}, judged_by=EVIL, outcome_by_rule="unparsable"
        ),
    ]
    folder = write_evaluation(tmp_path / "<b>run", lines)
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'wrong.html'}\n"
    page = (folder / "wrong.html").read_text()
    assert page.count("<script>") == 1 and "alert(&#34;1&#34;)" in page and "<b>run" not in page
    assert (
        'data-subtask="x&#34; onload=&#34;"' in page
        and "half a pair \\ud800" in page
        and ", by rule unparsable" in page
    )
    assert not re.search(r"""(?:src|href)="(?!data:)""", page) and page.count('class="case"') == 4


def test_a_page_is_bounded_whatever_the_run_holds(tmp_path: Path):
    lines = [item_line(n, "wrong", output="word " * 50_000) for n in range(MAX_ITEMS + 20)]
    folder = write_evaluation(tmp_path / "run", lines)
    page = write_answers_page(folder).read_text()
    assert page.count('class="case"') == MAX_ITEMS and len(page) < MAX_ITEMS * 25_000
    assert f"{MAX_ITEMS + 20} items are not right; {MAX_ITEMS} of them are shown" in page
    assert "230,000 more characters" in page


def test_frames_are_those_of_the_clip_and_a_shared_one_is_read_once(clip: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[tuple[float, float]] = []
    read_whole = VideoReader.read

    def reading(self, path, part):
        read.append((part.start, part.end))
        return read_whole(self, path, part)

    monkeypatch.setattr(VideoReader, "read", reading)
    of = {"media": str(clip), "data_type": "video"}
    lines = [
        item_line(n, "wrong", **of, start=start, end=end)
        for n, (start, end) in enumerate([(2, 5), (2, 5), (None, None)])
    ]
    strips = strips_of([*lines, item_line(3, "media_missing"), item_line(4, media="lost.mp4", data_type="video")])
    assert read == [(2, 5), (0, math.inf), (0, math.inf)]  # the last is lost
    assert strips["0"] == strips["1"] != strips["2"] and strips["0"][0].startswith("data:image/webp;base64,")
    assert strips["3"] == strips["4"] == ()


def test_no_frames_are_read_once_the_time_for_them_is_over(clip: Path):
    assert strips_of([item_line(0, media=str(clip), data_type="video")], seconds=0) == {"0": ()}


def test_a_run_without_a_wrong_answer_has_a_page_and_a_folder_without_items_is_named(tmp_path: Path):
    page = write_answers_page(write_evaluation(tmp_path / "run", [item_line(0)])).read_text()
    assert "0 items are not right" in page and 'class="case"' not in page
    with pytest.raises(MissingData, match=r"nowhere: no items\.jsonl"):
        write_answers_page(tmp_path / "nowhere")
