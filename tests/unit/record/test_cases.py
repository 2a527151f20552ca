"""Case studies: the questions on which two runs differ most, from their records alone."""

import json
from pathlib import Path

import pytest
from PIL import Image

from ktr.record.token_records import append_records, read_records
from ktr.report import main

from .conftest import make_records

ALL = ("entropy", "visual", "temporal")


@pytest.fixture
def write_run(tmp_path: Path):
    """Write a run folder: by question, the rewards of its two completions."""

    def write(name: str, rewards: dict[str, tuple[float, float]], step: int = 5) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for question, pair in rewards.items():
            records = make_records(ALL, step, with_roles=True, name=question)
            for record, reward in zip(records, pair, strict=True):
                record["reward"] = reward
            append_records(folder / "attribution.jsonl", records)
        return folder

    return write


def test_the_questions_that_differ_most_stand_first_side_by_side(write_run, tmp_path: Path, capsys):
    one = write_run("one", {"near": (1, 2), "same": (1, 1), "far": (0, 0), "alone": (0, 0)})
    two = write_run("two", {"far": (2, 1), "near": (2, 2), "same": (2, 0)})
    write_run("two", {"alone": (9, 9)}, step=1)  # of an earlier step
    output = tmp_path / "out" / "cases.html"
    assert main(["cases", str(one), str(two / "attribution.jsonl"), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    data = json.loads(output.with_suffix(".json").read_text())
    assert [case["question"] for case in data["cases"]] == ["far", "near"]
    assert [column["title"] for column in data["cases"][0]["columns"]] == ["one", "two"]
    assert [column["note"] for column in data["cases"][0]["columns"]] == [
        "mean reward 0.00 over 2",
        "mean reward 1.50 over 2",
    ]
    page = output.read_text()
    assert page.count("The other completions") == 2 and page.count('role="listbox"') == 8 and "2 of 3 questions" in page
    assert main(["cases", str(two), str(one), "--limit", "1", "--output", str(output)]) == 0
    assert len(json.loads(output.with_suffix(".json").read_text())["cases"]) == 1


def test_each_of_several_media_is_shown_or_named_where_it_cannot_be_read(write_run, tmp_path: Path, make_run):
    Image.new("RGB", (56, 28), "red").save(tmp_path / "red.png")
    runs = [write_run("one", {"q": (0, 0)}), write_run("two", {"q": (1, 1)}), make_run(ALL, truth=False)]
    media = {"media": ["gone.mp4", str(tmp_path / "red.png")], "data_type": ["video", "image"]}
    for records in [runs[0] / "attribution.jsonl", runs[1] / "attribution.jsonl", runs[2] / "rollouts.jsonl"]:
        rewritten = [record | media for record in read_records(records)]
        records.unlink()
        append_records(records, rewritten)
    output = tmp_path / "cases.html"
    assert main(["cases", str(runs[0]), str(runs[1]), "--output", str(output)]) == 0
    (case,) = json.loads(output.with_suffix(".json").read_text())["cases"]
    assert [(strip["data_type"], len(strip["frame_seconds"])) for strip in case["strips"]] == [
        ("video", 0),
        ("image", 1),
    ]
    assert main([str(runs[2])]) == 0
    report = (runs[2] / "report.html").read_text()
    for page in (output.read_text(), report):
        assert "video 1: gone.mp4, cannot be read here" in page and "image 2: red.png<" in page
    assert output.read_text().count("<img ") == 1
    assert 'alt="frames of medium 2"' in report and 'alt="frames of medium 1"' not in report


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"q1": (1, 2)}, "earn the same on each of their 1 common questions"),
        ({"q1": (2, 1)}, "earn the same on each of their 1 common questions"),
        ({"q2": (1, 2)}, "have no question in common"),
    ],
)
def test_runs_without_a_case_are_refused(write_run, other: dict, said: str, capsys):
    one, two = write_run("one", {"q1": (1, 2)}), write_run("two", other)
    assert main(["cases", str(one), str(two)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and str(one) in line


def test_a_folder_without_records_and_a_damaged_file_are_named(write_run, tmp_path: Path, capsys):
    one = write_run("one", {"q1": (1, 2)})
    assert main(["cases", str(one), str(tmp_path / "none")]) == 2
    assert "none does not exist" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"step": 1}\n')
    assert main(["cases", str(one), str(tmp_path / "bad.jsonl")]) == 2
    assert "bad.jsonl: cannot be read (KeyError" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--output", "page.pdf"]])
def test_an_option_that_cannot_be_used_is_refused(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as ended:
        main(["cases", "one", "two", *arguments])
    assert ended.value.code == 2 and "--limit is at least 1" in capsys.readouterr().err
