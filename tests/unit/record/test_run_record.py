"""config.yaml, record.json and summary.json: what a run was."""

import json
import subprocess

import pytest
import torch
from omegaconf import OmegaConf

from ktr.record.json_file import read_object, write_object
from ktr.record.run_record import OUTCOMES, collect_record, git_state, start_run

CONFIG = OmegaConf.create({"seed": 7, "copy": "${seed}"})


def test_the_record_names_versions_machine_seed_and_command():
    record = collect_record(seed=7, argv=["train", "seed=7"])
    assert record["seed"] == 7 and record["argv"] == ["train", "seed=7"]
    assert record["packages"]["torch"] == torch.__version__
    assert record["machine"]["torch_threads"] == torch.get_num_threads() and record["machine"]["cpu"]
    assert {"python", "platform", "git", "started"} <= set(record)
    assert json.loads(json.dumps(record)) == record


def test_what_changed_is_recorded_without_its_secrets(tmp_path):
    start_run(tmp_path, CONFIG, seed=7)
    changed = {"rollout.addresses": (["http://me:hush@host"], None), "reward.rewards.mine.token": (None, "hush")}
    (resumed,) = start_run(tmp_path, CONFIG, seed=7, resumed_at=4, changed=changed)["resumed"]
    assert "hush" not in str(resumed) and set(resumed["changed"]) == set(changed)


def test_the_command_is_recorded_without_its_secrets():
    argv = ["train", "rollout.addresses=[http://me:hush@host]", "reward.rewards.mine.token=hush"]
    recorded = " ".join(collect_record(seed=7, argv=argv)["argv"])
    assert "hush" not in recorded and "@host" in recorded


def test_config_is_kept_resolved(tmp_path):
    start_run(tmp_path, CONFIG, seed=7)
    assert OmegaConf.load(tmp_path / "config.yaml") == {"seed": 7, "copy": 7}
    assert (read_object(tmp_path / "record.json") or {})["seed"] == 7


def test_outside_git_there_is_no_state(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) is None


def test_the_commit_and_uncommitted_changes_are_recorded(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}


def test_a_fresh_run_removes_what_an_earlier_one_left(tmp_path):
    names = {*OUTCOMES, "words.html", "words.json"}  # the report would link to those words
    for name in names:
        (tmp_path / name).write_text("old")
    start_run(tmp_path, CONFIG, seed=7)
    assert not any((tmp_path / name).exists() for name in names)


def test_a_resumed_run_keeps_them_and_its_first_record(tmp_path):
    first = start_run(tmp_path, CONFIG, seed=7)
    (tmp_path / "rollouts.jsonl").write_text("kept")
    resumed = start_run(tmp_path, CONFIG, seed=7, resumed_at=4)
    assert (tmp_path / "rollouts.jsonl").read_text() == "kept"
    assert resumed["started"] == first["started"]
    assert [(entry["step"], entry["changed"]) for entry in resumed["resumed"]] == [(4, {})]


def test_a_resumed_run_has_no_row_of_a_step_that_it_has_yet_to_take(tmp_path):
    start_run(tmp_path, CONFIG, seed=7)
    (tmp_path / "metrics.csv").write_text("step,loss,val\n4,1.0,\n5,2.0,3.0\n")
    start_run(tmp_path, CONFIG, seed=7, resumed_at=4)
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n4,1.0\n"


def test_what_changed_is_recorded_with_its_step_and_the_config_is_the_new_one(tmp_path):
    start_run(tmp_path, CONFIG, seed=7)
    start_run(tmp_path, CONFIG, seed=7, ranks=2, resumed_at=4)
    changed = OmegaConf.merge(CONFIG, {"lr": 2})
    start_run(tmp_path, OmegaConf.create(changed), seed=7, ranks=2, resumed_at=6, changed={"lr": (1, 2)})
    entries = (read_object(tmp_path / "record.json") or {})["resumed"]
    assert [(entry["step"], entry["changed"]) for entry in entries] == [(4, {"ranks": [1, 2]}), (6, {"lr": [1, 2]})]
    assert OmegaConf.load(tmp_path / "config.yaml").lr == 2


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_object(tmp_path / "summary.json", {"accuracy": 0.5})
    with pytest.raises(TypeError):
        write_object(tmp_path / "summary.json", {"accuracy": object()})
    assert read_object(tmp_path / "summary.json") == {"accuracy": 0.5}
