"""Pages and tables of evaluations, from made-up folders."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ktr import report
from ktr.errors import MissingData
from ktr.evaluation.asking.asking import about
from ktr.evaluation.asking.results import results
from ktr.evaluation.benchmarks.item import Item, ItemMedium
from ktr.evaluation.reports.answers_page import some_wrong, write_answers_page
from ktr.evaluation.reports.folder import EvaluationFolder
from ktr.evaluation.reports.leaderboard import all_notes, leaderboard, leaderboard_grid
from ktr.evaluation.reports.leaderboard_files import write_leaderboard
from ktr.evaluation.reports.pairs_page import write_pairs
from ktr.evaluation.rules.asked import Asked

IDENTITY = {
    "benchmark": {"name": "video_holmes", "hash": "0"}, "rule": "strict", "video": {"num_frames": 16, "max_pixels": 9},
    "decoding": {"temperature": 0.0}, "model": {"weights": "a"}, "versions": {"torch": "2"},
}  # fmt: skip
TASKS = ("SR", "IMC", "TCI", "TA")


def write(folder: Path, scores: str, model: str = "runs/a/policy", **identity: Any) -> Path:
    """An evaluation whose items are right (1), wrong (0), unparsable (u) or failed (f)."""
    kinds = {"1": "right", "0": "wrong", "u": "unparsable", "f": "failed"}
    lines = []
    for number, score in enumerate(scores):
        asked = Asked("A", options=("A. red", "B. <b>blue</b>"), question=f"What <script> is {number}?")
        item = Item(str(number), asked, (ItemMedium((f"{number % 5}.mp4",)),), subtask=TASKS[number % 4])
        lines.append(
            about(item) | {
                "output": None if score == "f" else f"<answer>{'A' if score == '1' else 'B'}</answer>",
                "prediction": {"1": "A", "0": "B"}.get(score), "outcome": kinds[score], "score": float(score == "1"),
                "reason": "HTTP 500" if score == "f" else "", "num_frames": [16], "prompt_tokens": 9,
                "completion_tokens": 2, "seconds": 0.1, "cost": None, "groups": {},
            }
        )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = IDENTITY | identity
    result = results(folder.name, whole, lines, "micro") | {"model": model, "media_missing": 0}
    (folder / "results.json").write_text(json.dumps(result))
    return folder


def test_the_page_shows_what_is_not_right_in_turn_of_subtasks_and_escapes_it(tmp_path: Path):
    page = write_answers_page(write(tmp_path / "a", "10u0f010" * 20), limit=12).read_text()
    assert page.count('<section class="case"') == 12 and "What &lt;script&gt; is" in page and "<script> is" not in page
    assert "B. &lt;b&gt;blue" in page and "HTTP 500" in page and "12 of the 120 items that are not right" in page
    assert len(set(re.findall(r'data-subtask="(\w+)"', page))) == 4
    assert len(some_wrong(EvaluationFolder.read(tmp_path / "a").lines(), 500)) == 120
    assert "<td>all</td>" in page


def test_a_row_is_a_model_a_column_a_benchmark_and_published_rows_are_beside(tmp_path: Path):
    write(tmp_path / "a", "1100" * 25)
    write(tmp_path / "b" / "deep", "1110f" * 20, model="gpt-4o", video={"num_frames": 32, "max_pixels": 9})
    write(tmp_path / "c", "11" * 20, benchmark={"name": "mmvu", "hash": "1"})
    text, page = write_leaderboard([tmp_path], tmp_path / "board")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["| model", "video_holmes", "mmvu |"]
    assert rows[2][0] == "| a, 16 frames" and rows[2][1].startswith("50.0 ± ") and rows[2][2].startswith("100.0 ± ")
    assert rows[3][0] == "| gpt-4o, 32 frames" and rows[3][1].startswith("75.0 ± ") and rows[3][2] == "– |"
    assert any(row[0] == "| Video-R1 (7B, 32 frames), published" and row[1] == "36.5" for row in rows)
    assert "20 of 100 items have no reply; with them as wrong it is 60.0" in text
    names = {path.name for path in page.parent.iterdir()}
    assert {
        "leaderboard.md",
        "leaderboard.tex",
        "bars.png",
        "radar-video_holmes.png",
        "radar-mmvu.png",
        "leaderboard.html",
    } == names
    assert r"\toprule" in (page.parent / "leaderboard.tex").read_text() and "data:image/png" in page.read_text()


def test_results_that_were_asked_otherwise_are_marked_and_models_may_differ(tmp_path: Path):
    folders = [
        write(tmp_path / "a", "10"), write(tmp_path / "b", "11", model="b", rule="lenient"),
        write(tmp_path / "c", "11", model="c", decoding={"temperature": 1.0}),
        write(tmp_path / "d", "00", model="runs/d/policy", versions={"torch": "2"}),
    ]  # fmt: skip
    board = leaderboard([EvaluationFolder.read(folder) for folder in folders[:3]])
    cells = {row[0]: row[1] for row in leaderboard_grid(board).rows[:3]}
    assert (
        cells["b, 16 frames"].endswith("[a]")
        and cells["c, 16 frames"].endswith("[b]")
        and "[" not in cells["a, 16 frames"]
    )
    assert any(
        "[a] video_holmes, not asked as a, 16 frames was: " in n and 'rule: "strict" and "lenient"' in n
        for n in all_notes(board)
    )
    alike = leaderboard([EvaluationFolder.read(folder) for folder in (folders[0], folders[3])])
    assert not alike.marks and len(alike.cells) == 2


def test_two_evaluations_are_compared_item_by_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = write(tmp_path / "a", "1100" * 20), write(tmp_path / "b", "1110" * 20, rule="lenient")
    assert report.main(["compare", str(first), str(second), "--output", str(tmp_path / "c.html")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == str(tmp_path / "c.html") and '  differs: rule: "strict" and "lenient"' in out
    overall = next(line for line in out if line.startswith("all")).split()
    assert overall[1:3] == ["80", "+25.00"] and overall[-3:-1] == ["20", "0"] and float(overall[-1]) < 1e-5
    page = (tmp_path / "c.html").read_text()
    assert (
        "Right in b alone: 20 of them" in page and "Right in a alone: 0 of them" in page and "<script> is" not in page
    )
    other = write(tmp_path / "m", "10", benchmark={"name": "mmvu", "hash": "1"})
    with pytest.raises(MissingData, match="name two of one benchmark"):
        write_pairs([first, other], tmp_path / "x.html")


def test_a_folder_is_rebuilt_from_its_files_and_one_without_a_result_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = write(tmp_path / "a", "10")
    assert report.main([str(folder)]) == 0 and capsys.readouterr().out == f"{folder / 'wrong.html'}\n"
    (folder / "results.json").unlink()
    with pytest.raises(MissingData, match="has not ended: start it again, and it goes on"):
        EvaluationFolder.read(folder)
    assert report.main(["leaderboard", str(folder)]) == 2
    assert "there is no results.json in it or below" in capsys.readouterr().err
