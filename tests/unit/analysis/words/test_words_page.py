"""python -m ktr.report words: a page for each run, or one of all of them."""

import json
import re
from pathlib import Path

import matplotlib.image
import pytest

from ktr.analysis.words.word_figures import draw_overlap
from ktr.report import main

from .conftest import make_record, write_records

RECORDS = [
    make_record("a", "<think> red <b>& moves </think>", (1, 2), (1,), problem_type="<i>odd</i>"),
    make_record("b", "so the square is 红色 👍 .", (1,), (2, 4)),
    make_record("b", "left or right ?", (0, 2), (0,)),
]
FIGURES = {"parts_of_speech", "overlap", "position", "problem_type", "clouds"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_records(tmp_path / "run" / "rollouts.jsonl", RECORDS)
    return tmp_path / "run"


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ktr.analysis.words.words_page.write_word_figures", lambda *_: {})


def test_a_page_with_its_figures_and_numbers_is_written_into_the_run(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["words", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'words.html'}\n"
    assert {path.name for path in (run / "figures").iterdir()} == {f"words_{name}.png" for name in FIGURES}
    page = (run / "words.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(FIGURES)
    assert "<script" not in page and "<i>odd" not in page and "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "no letters for them: 红色" in page
    numbers = json.loads((run / "words.json").read_text(encoding="utf-8"))
    assert numbers["completions"] == 3 and numbers["questions"] == 2 and numbers["signals"] == ["entropy", "visual"]
    assert numbers["tagger"].startswith("textblob") and numbers["published"]["visual"]["NOUN"] == 0.2483
    assert (matplotlib.image.imread(run / "figures" / "words_clouds.png") < 1).any()


def test_a_page_is_the_same_each_time(run: Path):
    written = []
    for _ in range(2):
        assert main(["words", str(run), "seed=3"]) == 0
        written.append([(run / name).read_bytes() for name in ("words.html", "words.json")])
    assert written[0] == written[1]


def test_pairs_are_called_by_their_signals_whatever_these_are_called(tmp_path: Path):
    kl = {
        part: {"visual": RECORDS[2][part]["visual"], "visual_kl": RECORDS[2][part]["entropy"]}
        for part in ("scores", "selected")
    }
    write_records(tmp_path / "run" / "rollouts.jsonl", [RECORDS[2] | kl])
    assert main(["words", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "words.html").read_text(encoding="utf-8")
    assert "<td>visual, visual_kl</td>" in page
    figure = draw_overlap(json.loads((tmp_path / "run" / "words.json").read_text())["overlap"], ["visual", "visual_kl"])
    assert figure is not None
    assert figure.axes[-1].get_yticklabels()[0].get_text() == "visual, visual_kl"


def test_roles_are_shown_where_they_are_known(run: Path):
    roles = ["nothing", "order_motion", "nothing", "decision", "nothing"]
    write_records(run / "attribution.jsonl", [RECORDS[0] | {"roles": roles}])
    assert main(["words", str(run), "records=attribution"]) == 0
    assert (run / "figures" / "words_roles.png").exists()
    assert "order, motion" in (run / "words.html").read_text(encoding="utf-8")


def test_runs_get_a_page_each_or_one_together(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], without_figures: None
):
    other = tmp_path / "other"
    write_records(other / "rollouts.jsonl", RECORDS[1:])
    assert main(["words", str(run), str(other)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(run / "words.html"), str(other / "words.html")]
    assert main(["words", str(run), str(other), f"output={tmp_path / 'both'}"]) == 0
    numbers = json.loads((tmp_path / "both" / "words.json").read_text(encoding="utf-8"))
    assert numbers["completions"] == 5 and numbers["questions"] == 2  # a question of two runs is one


def test_a_run_that_still_writes_is_read_up_to_its_last_whole_line(
    run: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], without_figures: None
):
    with (run / "rollouts.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"question":"c","tok')
    assert main(["words", str(run)]) == 0
    assert "read rollouts.jsonl 4/4" in capsys.readouterr().err
    assert "1 of 4 lines are left out" in caplog.text and "line 4: cut off (20 bytes)" in caplog.text
    assert "line 4: cut off" in (run / "words.json").read_text(encoding="utf-8")


def test_completions_without_a_word_are_a_page_too(run: Path):
    write_records(run / "rollouts.jsonl", [make_record("a", ". .", (0,)), make_record("b", "", ())])
    assert main(["words", str(run)]) == 0
    assert not (run / "figures" / "words_clouds.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "ouput=x"], "ouput=x: no such option; there are output, tagger, records, font, seed"),
        (["{run}", "seed=-1"], "seed=-1: name a whole number"),
        (["{run}", "font={run}/rollouts.jsonl"], "cannot be read as a font"),
        (["{run}", "font=absent.ttf"], "cannot be read as a font"),
        (["{run}", "tagger=no"], "tagger=no: no such tagger"),
        (["{run}", "records=all"], "records=all: take rollouts or attribution"),
        (["{run}/absent"], "absent: no such folder; name a run folder"),
        (["{run}/empty"], "empty: no scored tokens in rollouts.jsonl or attribution.jsonl"),
        (["output=x"], "no run folder; name one"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    (run / "empty").mkdir()
    assert main(["words", *(argument.format(run=run) for argument in arguments)]) == 2
    out, error = capsys.readouterr()
    assert not out and message in error and error.count("\n") == 1
    assert not (run / "words.html").exists()
