"""Which run is which row of which table, and what is refused."""

import json

import pytest

from ktr.errors import MissingData
from ktr.report import main
from ktr.tables.runs import find_tables

from .table_factory import ROWS, write_run, write_table


def test_runs_are_found_at_any_depth_and_what_is_inside_a_run_is_not(tmp_path):
    write_run(tmp_path / "here", "grpo")
    write_run(tmp_path / "there" / "deep", "vet")
    (tmp_path / "here" / "grpo-s0" / ".hydra").mkdir()
    (tmp_path / "here" / "grpo-s0" / ".hydra" / "config.yaml").write_text("trainer: {}\n")
    inner = tmp_path / "here" / "grpo-s0" / "checkpoints"
    inner.mkdir()
    (inner / "config.yaml").write_text("trainer: {}\n")
    (table,) = find_tables(tmp_path)
    assert {row: len(runs) for row, runs in table.rows.items()} == {"grpo": 1, "vet": 1}


def test_each_table_of_a_folder_is_one_of_its_own(tmp_path):
    write_table(tmp_path / "signals", {"grpo": (0.5,), "vet": (0.5,)})
    write_table(tmp_path / "methods", {"grpo": (0.5,), "vet": (0.5,)}, name="rl_methods")
    assert [table.name for table in find_tables(tmp_path)] == ["rl_methods", "signals"]


def test_the_same_table_in_two_folders_is_two_tables(tmp_path):
    write_table(tmp_path / "embedded", {"grpo": (0.5,), "vet": (0.5,)})
    write_table(tmp_path / "large", {"grpo": (0.7,), "vet": (0.7,)})
    tables = find_tables(tmp_path)
    assert [run.path.parent.name for table in tables for run in table.rows["grpo"]] == ["embedded", "large"]


def test_a_row_that_was_run_twice_counts_once_and_the_finished_run_counts(tmp_path):
    write_run(tmp_path, "grpo", 0, finished=False)
    twice = write_run(tmp_path / "again", "grpo", 0, accuracy=0.9)
    twice.rename(tmp_path / "grpo-s0-2")
    (table,) = find_tables(tmp_path)
    assert [run.path.name for run in table.rows["grpo"]] == ["grpo-s0-2"]
    assert [run.path.name for run in table.repeated] == ["grpo-s0"]


def test_runs_without_a_table_are_named_by_algorithm_signals_and_what_differs(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "a", "vet", seed, rows=None)
        write_run(tmp_path / "b", "vet", seed, rows=None, changes={"selection.ratio": 0.5})
        write_run(tmp_path / "c", "none", seed, rows=None)
    (table,) = find_tables(tmp_path)
    assert list(table.rows) == ["video_ktr-vet", "video_ktr-vet ratio 0.5", "video_ktr-none"]
    assert all(len(runs) == 2 for runs in table.rows.values()) and table.baseline == "video_ktr-vet"


def test_a_row_without_any_run_is_a_row(tmp_path):
    write_run(tmp_path, "grpo")
    (table,) = find_tables(tmp_path)
    assert list(table.rows) == list(ROWS) and table.rows["vet"] == ()


@pytest.mark.parametrize("content", ["", "no run here"])
def test_a_folder_without_runs_is_refused_by_name(tmp_path, capsys, content):
    (tmp_path / "notes.txt").write_text(content)
    assert main(["tables", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}: no run below it")
    assert main(["tables", str(tmp_path / "absent")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", '{"accuracy_after": {'),
        ("summary.json", json.dumps({"accuracy_after": {"greedy": {"n": 600}}})),
        ("summary.json", json.dumps({"accuracy_after": []})),
        ("summary.json", "[]"),
        ("record.json", "{"),
        ("config.yaml", "seed: [0"),
        ("config.yaml", "a word"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_that_names_it_and_the_remedy(tmp_path, name, content):
    run = write_run(tmp_path, "grpo")
    (run / name).write_text(content)
    with pytest.raises(MissingData) as caught:
        find_tables(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{run / name}: ") and "\n" not in message and "run it again" in message


@pytest.mark.parametrize("content", ["step,reward/accuracy\n1,half\n", "reward/accuracy\n0.5\n", "step,x\n1,2,3\n"])
def test_steps_that_cannot_be_read_are_one_error_too(tmp_path, capsys, content):
    run = write_run(tmp_path, "grpo")
    (run / "metrics.csv").write_text(content)
    assert main(["tables", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"{run / 'metrics.csv'}: cannot be read")


def test_a_rung_has_the_rows_that_reached_it(tmp_path):
    rungs = {"table.rungs": [{"updates": 4, "seeds": [0], "keep": 1}]}
    write_run(tmp_path, "vet", changes=rungs)
    (table,) = find_tables(tmp_path)
    assert [*table.rows] == ["vet"] and [*table.overrides] == ["vet"]
