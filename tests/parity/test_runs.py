"""The entry point end to end: what a run leaves, exact resumption, and two ranks against one."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ktr.record.metrics import metric
from ktr.record.step_table import read_columns
from ktr.record.wandb_file import records
from ktr.training.checkpoint import checkpoints
from tests.small_run import Train, finished

STEPS = ["trainer.max_steps=6", "callbacks.model_checkpoint.every_n_steps=2"]
DUMP = "+callbacks.gradient_dump={{_target_: tests.gradient_dump.GradientDump, path: {}.safetensors}}"
CURVES = ["logger=[wandb,tensorboard]", "logger.wandb.offline=true"]


@pytest.fixture(scope="session")
def whole_run(start_training: Train, runs_folder: Path) -> Path:
    """A run of six steps that nothing disturbed, with the gradient of its first step beside its folder."""
    run_dir = runs_folder / "runs" / "whole"
    output = finished(start_training([*STEPS, DUMP.format(run_dir), "name=whole"]))
    assert output.strip().splitlines()[-1] == str(run_dir / "report.html")
    return run_dir


@pytest.mark.xdist_group("whole_run")
def test_a_run_leaves_its_record(whole_run: Path):
    for name in ("config.yaml", "record.json", "metrics.csv", "rollouts.jsonl", "summary.json", "report.html"):
        assert (whole_run / name).stat().st_size > 0, name
    assert (whole_run / "policy" / "model.safetensors").is_file()
    summary = json.loads((whole_run / "summary.json").read_text())
    assert summary["algorithm"] == "video_ktr" and summary["attribution"]["name"] == "vet"
    assert summary["num_updates"] == 6 and summary["seed"] == 0
    for when in ("accuracy_before", "accuracy_after"):
        for way in ("greedy", "sampled"):
            assert {"accuracy", "n", "low", "high"} <= set(summary[when][way])
    assert summary["tokens_per_second"] > 0 and summary["wall_seconds"] > 0
    logged = [name for file in ("metrics.csv", "timings.csv") for name in read_columns(whole_run / file)]
    assert "grad/norm/selected" in logged and not [name for name in logged if metric(name) is None]


@pytest.mark.xdist_group("whole_run")
def test_a_run_killed_in_the_middle_and_started_again_is_the_same_to_the_bit(
    whole_run: Path, start_training: Train, runs_folder: Path
):
    run_dir = runs_folder / "runs" / "killed"
    victim = start_training([*STEPS, *CURVES, "name=killed"])
    # SIGKILL as soon as a checkpoint is there, wherever in the next step that is
    while not checkpoints(run_dir / "checkpoints"):
        assert victim.poll() is None, victim.communicate()[0]
        os.sched_yield()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not (run_dir / "summary.json").exists()

    finished(start_training([*STEPS, *CURVES, "name=killed"]))
    record = json.loads((run_dir / "record.json").read_text())
    assert record["resumed"]
    assert steps_of_wandb(run_dir, record["id"]) == steps_of_tensorboard(run_dir) == [1, 2, 3, 4, 5, 6]
    for name in ("metrics.csv", "rollouts.jsonl"):
        assert (run_dir / name).read_bytes() == (whole_run / name).read_bytes(), name
    resumed, whole = (load_file(path / "policy" / "model.safetensors") for path in (run_dir, whole_run))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def steps_of_wandb(run_dir: Path, run_id: str) -> list[int]:
    """The steps of ``loss/total`` in all parts of the one run that they are of."""
    parts = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert {part.stem for part in parts} == {f"run-{run_id}"} and len(parts) == 2
    rows = [record.history for part in parts for _, record in records(part.read_bytes()) if record.HasField("history")]
    assert len({row.step.num for row in rows}) == len(rows)
    return [row.step.num for row in rows if any("loss/total" in (item.key, *item.nested_key) for item in row.item)]


def steps_of_tensorboard(run_dir: Path) -> list[int]:
    return [point.step for point in EventAccumulator(str(run_dir / "tensorboard")).Reload().Scalars("loss/total")]


@pytest.mark.xdist_group("whole_run")
def test_two_ranks_give_the_gradient_of_one(whole_run: Path, start_training: Train, runs_folder: Path):
    ranks = runs_folder / "runs" / "ranks"
    finished(start_training(["trainer.max_steps=1", "trainer=ddp", DUMP.format(ranks), "name=ranks"]))
    one, two = (load_file(run.with_suffix(".safetensors")) for run in (whole_run, ranks))
    assert one.keys() == two.keys()
    scale = max(gradient.abs().max() for gradient in one.values())
    for name, gradient in one.items():
        assert (gradient - two[name]).abs().max() <= 1e-6 * scale, name
    measured, beside = (read_columns(run / "metrics.csv") for run in (whole_run, ranks))
    parts = [name for name in measured if name.startswith("grad/") and name != "grad/parts_error"]
    assert len(parts) > 12 and measured.keys() == beside.keys()
    for name in [*parts, "loss/variance"]:
        assert measured[name][0][0] == 1, name
        assert beside[name] == ([1], pytest.approx(measured[name][1][:1], rel=1e-4, abs=1e-6)), name
