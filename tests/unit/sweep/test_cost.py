"""What a sweep would cost follows from runs that were measured."""

import json
from pathlib import Path

import pytest

from ktr.sweep.cost import main

TABLE = ["+experiment=table/signals", "table.row=grpo,e", "table.seeds=[0,1]", "trainer.max_steps=60"]


def write_summary(runs: Path, table: str, run: str, training: float, whole: float) -> None:
    folder = runs / "table" / table / run
    folder.mkdir(parents=True)
    measured = {"num_updates": 120, "training_cpu_seconds": training, "cpu_seconds": whole}
    (folder / "summary.json").write_text(json.dumps(measured))


def test_rows_cost_what_their_own_runs_did_or_else_what_others_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_summary(tmp_path, "controls", "grpo-s0", 120.0, 150.0)
    write_summary(tmp_path, "controls", "vet-s0", 240.0, 270.0)
    assert main([*TABLE, f"paths.runs={tmp_path}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "grpo  2 runs × 1.5 core-minutes (60 updates)",
        "e     2 runs × 2.0 core-minutes (60 updates, by other rows)",
        "all   4 runs, 0.1 core-hours",
    ]


def test_an_update_of_a_resumed_run_costs_what_its_last_process_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for seed, step in enumerate((90, 120)):  # the second was killed after its last update
        write_summary(tmp_path, "controls", f"grpo-s{seed}", 30.0, 60.0)
        record = {"resumed": [{"step": 40}, {"step": step}]}
        (tmp_path / "table" / "controls" / f"grpo-s{seed}" / "record.json").write_text(json.dumps(record))
    assert main([*TABLE, f"paths.runs={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith("grpo  2 runs × 1.5 core-minutes")


def test_finished_runs_cost_nothing_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_summary(tmp_path, "controls", "grpo-s0", 120.0, 150.0)
    (tmp_path / "table" / "signals" / "grpo-s1").mkdir(parents=True)
    (tmp_path / "table" / "signals" / "grpo-s1" / "summary.json").write_text("{}")
    assert main([*TABLE, f"paths.runs={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith("grpo  1 runs × 1.5")


def test_without_a_measured_run_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*TABLE, f"paths.runs={tmp_path}"]) == 2
    assert "no finished run below it" in capsys.readouterr().err


def test_help_says_what_it_is_for(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0 and "what a sweep would cost" in capsys.readouterr().out
