"""The entry point end to end: what a run leaves, and two ranks against one."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ktr.record.metrics import metric
from ktr.record.step_table import read_columns
from tests.small_run import Train, finished
from tests.spawned import on_ranks

STEPS = ["trainer.max_steps=6", "callbacks.model_checkpoint.every_n_steps=2"]
DUMP = "+callbacks.gradient_dump={{_target_: tests.gradient_dump.GradientDump, path: {}.safetensors}}"


@pytest.fixture(scope="session")
def whole_run(start_training: Train, runs_folder: Path) -> Path:
    """A run of six steps that nothing disturbed, with the gradient of its first step beside its folder."""
    run_dir = runs_folder / "runs" / "whole"
    output = finished(start_training([*STEPS, DUMP.format(run_dir), "name=whole"]))
    assert output.strip().splitlines()[-1] == str(run_dir / "report.html")
    return run_dir


def train_as_rank(overrides: Sequence[str]) -> None:
    """What ``python -m ktr.train`` does as one rank of those that another program started, as torchrun does."""
    from ktr.config.command_line import launch
    from ktr.train import sweep, train

    sys.argv[1:] = overrides
    launch(train, "train", sweep)


@pytest.mark.xdist_group("ranks")
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


@pytest.mark.xdist_group("ranks")
def test_two_ranks_give_the_gradient_of_one(whole_run: Path, small_run: list[str], runs_folder: Path):
    ranks = runs_folder / "runs" / "ranks"
    on_ranks(train_as_rank, [*small_run, "trainer.max_steps=1", "trainer=ddp", DUMP.format(ranks), "name=ranks"])
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
