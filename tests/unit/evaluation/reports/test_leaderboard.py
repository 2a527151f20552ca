"""The leaderboard: numbers as results have them, published ones marked, and nothing side by side that is not alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ktr.analysis import figure_style
from ktr.analysis.statistics import wilson_interval
from ktr.errors import MissingData
from ktr.evaluation.reports.folder import evaluations_below
from ktr.evaluation.reports.leaderboard import leaderboard
from ktr.evaluation.reports.leaderboard_files import board_grid, subtask_grid, write_leaderboard
from ktr.report import main
from tests.evaluation_folder import item_line, write_evaluation


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(figure_style.STYLE, "savefig.dpi", 20)


def lines(num_right: int, n: int = 10):
    return [item_line(number, "right" if number < num_right else "wrong") for number in range(n)]


def rows_of(folder: Path) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in board_grid(leaderboard(evaluations_below([folder]))).rows}


def test_a_cell_is_the_accuracy_with_wilsons_interval_and_rows_stand_best_first(tmp_path: Path):
    write_evaluation(tmp_path / "low", lines(3))
    write_evaluation(tmp_path / "deep" / "high", lines(7))
    low, high = (100 * end for end in wilson_interval(7, 10))
    assert list(rows_of(tmp_path).items()) == [
        ("high (16 frames)", [f"70.0 ({low:.1f} to {high:.1f})"]),
        ("low (16 frames)", ["30.0 (10.8 to 60.3)"]),
    ]


def test_an_official_figure_that_is_another_is_told_too(tmp_path: Path):
    write_evaluation(tmp_path / "a", lines(4), metric="macro")
    (cell,) = rows_of(tmp_path)["a (16 frames)"]
    assert cell == "40.0 (16.8 to 68.7), macro 38.9"


def test_numbers_have_their_mean_relative_accuracy(tmp_path: Path):
    regressions = [item_line(n, "wrong", problem_type="regression", score=0.25) for n in range(4)]
    write_evaluation(tmp_path / "a", regressions, benchmark="vsi_bench", metric="vsi_bench")
    write_evaluation(tmp_path / "b", [*regressions, item_line(4)], benchmark="vsi_bench", metric="vsi_bench")
    rows = rows_of(tmp_path)
    assert rows["a (16 frames)"][0].startswith("25.0 (") and "mra" not in rows["a (16 frames)"][0]
    assert rows["b (16 frames)"][0].startswith("100.0 (") and ", mra 25.0, vsi_bench" in rows["b (16 frames)"][0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": "lenient"}, 'rule: "strict" and "lenient"'),
        ({"video.max_pixels": 9}, "video.max_pixels: 3136 and 9"),
        ({"prompt.instruction": "Do."}, 'prompt.instruction: "Think." and "Do."'),
        ({"decoding.sampling.temperature": 1.0}, "decoding.sampling.temperature: 0.0 and 1.0"),
        ({"engine._target_": "Other"}, 'engine._target_: "Engine" and "Other"'),
        ({"versions.torch": "2"}, 'versions.torch: "1" and "2"'),
        ({"benchmark.hash": "x"}, 'benchmark.hash: "000010" and "x"'),
        ({"seed": 1}, "seed: 0 and 1"),
    ],
)
def test_a_result_that_was_asked_otherwise_is_marked_with_what_differs(tmp_path: Path, changes, told: str):
    for name in "ab":
        write_evaluation(tmp_path / name, lines(5))
    write_evaluation(tmp_path / "c", lines(9), changes=changes)
    board = leaderboard(evaluations_below([tmp_path]))
    assert board.notes == (f"shapes: not comparable, asked otherwise than a (16 frames): {told}.",)
    marked = {row[0]: row[1].endswith(" [1]") for row in board_grid(board).rows}
    assert marked == {"c (16 frames)": True, "a (16 frames)": False, "b (16 frames)": False}
    assert subtask_grid(board, "shapes").rows[0][0] == "c (16 frames) [1]"


def test_models_may_differ_and_an_endpoint_has_no_versions(tmp_path: Path):
    write_evaluation(tmp_path / "a", lines(5), changes={"model.dtype": "bfloat16"})
    write_evaluation(tmp_path / "b", lines(5))
    assert leaderboard(evaluations_below([tmp_path])).notes == ()
    write_evaluation(tmp_path / "c", lines(5), "gpt-4o")
    (note,) = leaderboard(evaluations_below([tmp_path])).notes
    assert note.endswith('engine._target_: "Engine" and "Endpoint".') and "gpt-4o (16 frames)" in rows_of(tmp_path)


def test_what_was_not_answered_or_not_asked_is_said(tmp_path: Path):
    answered = [*lines(4, 6), item_line(6, "failed"), item_line(7, "media_missing")]
    changes = {"benchmark.limit": 8, "benchmark.allow_missing": True}
    folder = write_evaluation(tmp_path / "a", answered, changes=changes)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(content | {"rows_skipped": 3}))
    (note,) = leaderboard(evaluations_below([tmp_path])).notes
    assert note == (
        "shapes: the first 8 items alone; 6 of 8 items answered (1 failed, 1 media_missing; with them as wrong 50.0); "
        "asked with benchmark.allow_missing=true; 3 rows of its file are no items."
    )


def test_a_model_is_one_row_of_several_benchmarks_and_two_rows_where_it_was_asked_twice(tmp_path: Path):
    model = "/runs/vet-32f-s0/policy"
    write_evaluation(tmp_path / "a", lines(5), model, benchmark="mmvu")
    write_evaluation(tmp_path / "b", lines(5), model, benchmark="video_mmmu")
    rows = [row for row in rows_of(tmp_path) if "published" not in row]
    assert rows == ["vet-32f-s0 (16 frames)"]
    write_evaluation(tmp_path / "c", lines(5), model, benchmark="mmvu", changes={"decoding.num_frames": 64})
    voted = {"decoding.sampling.num_completions": 8}
    write_evaluation(tmp_path / "d", lines(5), model, benchmark="mmvu", changes=voted)
    write_evaluation(tmp_path / "e", lines(5), model, benchmark="mmvu", changes=voted | {"rule": "lenient"})
    rows = [row for row in rows_of(tmp_path) if "published" not in row]
    assert sorted(rows) == [
        "vet-32f-s0 (16 frames, a)",
        "vet-32f-s0 (16 frames, b)",
        "vet-32f-s0 (16 frames, vote of 8, d)",
        "vet-32f-s0 (16 frames, vote of 8, e)",
        "vet-32f-s0 (64 frames, c)",
    ]


def test_names_are_as_short_as_keeps_models_apart(tmp_path: Path):
    places = {"a": "/x/one/policy", "b": "/y/one/policy", "c": "/y/two", "d": "/y/two"}
    for name, path in places.items():
        write_evaluation(tmp_path / name, lines(5), path, changes={"model.weights": name})
    folder = write_evaluation(tmp_path / "e", lines(5), "/y/base", changes={"model.weights": "e"})
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(content | {"adapter": "/y/lora"}))
    assert sorted(rows_of(tmp_path)) == [
        "base + lora (16 frames)",
        "two, weights c (16 frames)",
        "two, weights d (16 frames)",
        "x/one (16 frames)",
        "y/one (16 frames)",
    ]


def test_published_rows_stand_beside_and_say_so(tmp_path: Path):
    subtasks = ("SR", "IMC", "TCI", "TA", "MHR", "PAR", "CTI")
    holmes = [item_line(n, subtask=name) for n, name in enumerate(subtasks)]
    write_evaluation(tmp_path / "a", holmes, benchmark="video_holmes")
    write_evaluation(tmp_path / "b", lines(5))
    board = leaderboard(evaluations_below([tmp_path]))
    assert board.columns == ("video_holmes", "shapes")
    rows = {row[0]: row[1:] for row in board_grid(board).rows}
    assert rows["GPT-4o, published"] == ["42.0", "—"] and "LLaVA-OV (7B, 64 frames), published" not in rows
    by_subtask = subtask_grid(board, "video_holmes")
    assert by_subtask.columns == ["model", "PAR", "CTI", "SR", "IMC", "TCI", "TA", "MHR"]
    assert by_subtask.rows[-1] == ["video_ktr, published", "35.6", "40.7", "55.8", "45.3", "27.7", "49.0", "37.0"]


def test_two_files_of_ones_own_are_two_benchmarks(tmp_path: Path):
    for name, n in (("a", 4), ("b", 6)):
        write_evaluation(tmp_path / name, lines(2, n), "/m", benchmark="own")
    assert leaderboard(evaluations_below([tmp_path])).columns == ("own 000004", "own 000006")


def test_all_files_are_written_and_the_pages_path_is_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_evaluation(tmp_path / "runs" / "a_<b>&", lines(5))
    write_evaluation(tmp_path / "runs" / "b", lines(6))
    output = tmp_path / "board"
    assert main(["leaderboard", str(tmp_path / "runs"), str(tmp_path / "runs" / "b"), "--output", str(output)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == str(output / "leaderboard.html") and max(map(len, told[:4])) <= 100
    names = {path.name for path in output.iterdir()}
    assert names == {"leaderboard.md", "leaderboard.tex", "leaderboard.html", "bars.png", "radar-shapes.png"}
    page, tex = (output / "leaderboard.html").read_text(), (output / "leaderboard.tex").read_text()
    assert "a_&lt;b&gt;&amp;" in page and "<b>&" not in page and page.count("data:image/png") == page.count("<img") == 2
    assert "a\\_<b>\\& (16 frames) &" in tex and tex.count("\\\\") == 3
    assert "![bars](bars.png)" in (output / "leaderboard.md").read_text()


def test_each_benchmark_has_a_radar_of_its_own_whatever_its_name(tmp_path: Path):
    for place, name in enumerate(("a b", "a-b")):
        write_evaluation(tmp_path / str(place), lines(5), benchmark=name)
    _, page = write_leaderboard([tmp_path], tmp_path / "board")
    assert len(list(page.parent.glob("radar-*.png"))) == 2


def test_a_benchmark_of_two_subtasks_has_no_radar(tmp_path: Path):
    write_evaluation(tmp_path / "a", [item_line(n, subtask=f"task {n % 2}") for n in range(4)])
    _, page = write_leaderboard([tmp_path], tmp_path / "board")
    assert not (page.parent / "radar-shapes.png").exists() and "by subtask" not in page.read_text()


def test_a_folder_without_results_is_named_and_other_files_of_that_name_are_passed_by(tmp_path: Path):
    (tmp_path / "results.json").write_text('{"rules": {}}')
    with pytest.raises(MissingData, match=r"no results\.json of an evaluation"):
        evaluations_below([tmp_path])
    with pytest.raises(MissingData, match="nowhere: no such folder"):
        evaluations_below([tmp_path / "nowhere"])
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(MissingData, match=r"results\.json: cannot be read"):
        evaluations_below([tmp_path])


def test_it_is_made_without_loading_torch(tmp_path: Path):
    write_evaluation(tmp_path / "a", lines(5))
    program = "import sys; from ktr.report import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", program, "leaderboard", str(tmp_path), "--output", str(tmp_path / "board")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
