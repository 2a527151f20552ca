"""Each rung keeps the best rows of each method, and runs them anew with its own seeds."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from ktr.sweep.halving import best_of_each, main, method_of
from tests.unit.tables.table_factory import write_run

LEARNS = {"grpo_lr0.5": 0.6, "grpo_lr1": 0.7, "grpo_lr2": 0.8, "vet_lr0.5": 0.5, "vet_lr1": 0.9, "vet_lr2": 0.4}
RUNGS = "table.rungs=[{updates:4,seeds:[7],keep:2},{updates:8,seeds:[0,1]}]"


def test_the_best_of_each_method_go_on_and_of_equal_ones_the_earlier():
    assert best_of_each(LEARNS, 2) == ["grpo_lr2", "grpo_lr1", "vet_lr1", "vet_lr0.5"]
    assert best_of_each(dict.fromkeys(LEARNS, 0.5), 1) == ["grpo_lr0.5", "vet_lr0.5"]
    assert [method_of(row) for row in ("grpo_lr2", "t_grpo_lr1", "grpo")] == ["grpo", "t_grpo", "grpo"]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The command lines of the sweeps that are started, by key; their runs are written, not trained."""
    started: list[dict[str, str]] = []

    def sweep(command: list[str]) -> SimpleNamespace:
        given = dict(override.split("=", 1) for override in command[3:])
        started.append(given)
        folder = tmp_path / "table" / given["table.name"]
        rows = given["table.row"].split(",")
        for row in rows:
            for seed in map(int, given["seed"].split(",")):
                rewards = [LEARNS.get(row, 0.1)] * int(given["trainer.max_steps"])
                write_run(folder, row, seed, name=given["table.name"], rows={key: [] for key in rows}, rewards=rewards)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", sweep)
    return started


def test_a_rung_starts_with_the_best_of_the_last(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    regime = ["data.questions_per_step=4", "table.name=few"]
    assert main(["+experiment=table/regime", RUNGS, f"paths.runs={tmp_path}", *regime]) == 0
    first, second = trained
    assert first["table.row"].count(",") == 19 and (first["seed"], first["trainer.max_steps"]) == ("7", "4")
    assert second["table.row"].startswith("grpo_lr2,grpo_lr1,vet_lr1,vet_lr0.5,reasoning_lr0.5,reasoning_lr1,")
    assert (second["table.baseline"], second["seed"]) == ("grpo_lr2", "0,1")
    assert (first["table.name"], second["table.name"], second["data.questions_per_step"]) == ("few_1", "few_2", "4")
    out = capsys.readouterr().out
    assert "rung 1 of 2: 10 rows go on: grpo_lr2, grpo_lr1, vet_lr1, vet_lr0.5, reasoning_lr0.5" in out
    assert out.splitlines()[-1] == str(tmp_path / "table" / "few_2" / "table.md")


def test_a_table_of_one_s_own_folder_has_rungs_too(trained, tmp_path: Path):
    conf = Path(__file__).parents[2] / "outside" / "conf"
    own = ["--config-dir", str(conf), "+experiment=table/mine", RUNGS, f"paths.runs={tmp_path}"]
    assert main(own) == 0
    assert [given["table.name"] for given in trained] == ["mine_1", "mine_2"]
    assert all(str(conf) in given["hydra.searchpath"] for given in trained)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["+experiment=table/signals"], "there are no rungs"),
        (["+experiment=table/regime", "seed=3"], "seed=3: the rungs of the table say that"),
        (["+experiment=table/regime", "table.row=grpo_lr1"], "table.row=grpo_lr1: the rungs of the table say that"),
    ],
)
def test_what_has_no_rungs_or_sets_what_they_say_is_refused(given, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(given) == 2 and said in capsys.readouterr().err
