"""Runs whose policy is spread over two processes: killed, resumed on any number of them, exported; and no mix hangs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ktr.algorithm.entropy_minority import BatchEntropy
from ktr.config.resumption import checkpoints
from ktr.export.exported_folder import export
from ktr.record.step_table import read_columns
from tests.sharded_run import random_mix, run
from tests.small_run import Train, finished
from tests.spawned import on_ranks

SPREAD = ["trainer=fsdp2", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
STEPS = ["trainer.max_steps=6", "callbacks.model_checkpoint.every_n_steps=2"]
NUM_MIXES = 100


def other_rank(process: subprocess.Popen[str]) -> int:
    """The process that the first rank started."""
    while not (children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()):
        assert process.poll() is None
        os.sched_yield()
    return int(children[0])


def kill(process: subprocess.Popen[str]) -> None:
    other = other_rank(process)
    process.send_signal(signal.SIGKILL)
    os.kill(other, signal.SIGKILL)
    process.communicate()


def test_a_run_killed_while_it_writes_goes_on_as_it_was_on_two_ranks_on_one_and_without_spreading(
    start_training: Train, runs_folder: Path
):
    runs = runs_folder / "runs"
    finished(start_training([*STEPS, *SPREAD, "name=spread_whole"]))
    victim = start_training([*STEPS, *SPREAD, "name=spread_killed"])
    folder = runs / "spread_killed" / "checkpoints"
    while not (folder / "step-000004.partial" / "shards").exists():
        assert victim.poll() is None, victim.communicate()[0]
        os.sched_yield()
    kill(victim)
    kept = checkpoints(folder)
    assert kept and all(sorted(path.name for path in each.iterdir()) == ["shards", "trainer.ckpt"] for each in kept)

    resumed = {"spread_on_one": [*SPREAD, "trainer.devices=1"], "spread_no_more": [], "spread_killed": SPREAD}
    for name, trainer in resumed.items():
        if name != "spread_killed":
            shutil.copytree(runs / "spread_killed", runs / name)
        finished(start_training([*STEPS, *trainer, f"name={name}"]))
        measured, whole = (read_columns(runs / of / "metrics.csv") for of in (name, "spread_whole"))
        exactly = name == "spread_killed"
        for metric in ("loss/total", "grad/norm", "reward/total", "val/greedy/completion_length"):
            assert measured[metric][0] == whole[metric][0]
            assert measured[metric][1] == (whole[metric][1] if exactly else pytest.approx(whole[metric][1], rel=1e-4))

    export(runs / "spread_killed", runs_folder / "exported", checkpoint="6")
    weights, final = (
        load_file(at / "model.safetensors") for at in (runs_folder / "exported", runs / "spread_killed/policy")
    )
    assert weights.keys() == final.keys() and all(torch.equal(weights[name], final[name]) for name in final)


def test_a_run_that_began_whole_goes_on_spread(start_training: Train, runs_folder: Path):
    runs = runs_folder / "runs"
    finished(start_training([*STEPS, "name=begun_whole"]))
    cut = shutil.copytree(runs / "begun_whole", runs / "begun_whole_spread")
    shutil.rmtree(cut / "checkpoints" / "step-000006")
    (cut / "summary.json").unlink()
    finished(start_training([*STEPS, *SPREAD, "name=begun_whole_spread"]))
    measured, whole = (read_columns(run_dir / "metrics.csv") for run_dir in (cut, runs / "begun_whole"))
    for metric in ("loss/total", "grad/norm"):
        assert measured[metric][0] == whole[metric][0]
        assert measured[metric][1] == pytest.approx(whole[metric][1], rel=1e-4, abs=1e-6), metric


def test_a_rank_that_dies_ends_the_other_with_one_sentence(start_training: Train, runs_folder: Path):
    process = start_training([*SPREAD, "trainer.max_steps=400", "name=spread_died", "trainer.strategy.time_limit_s=30"])
    metrics = runs_folder / "runs" / "spread_died" / "metrics.csv"
    while not metrics.exists() or not read_columns(metrics).get("loss/total"):
        assert process.poll() is None, process.communicate()[0]
        os.sched_yield()
    os.kill(other_rank(process), signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1 and "LostRank: the other ranks cannot be reached" in output.splitlines()[-1], output


def test_more_ranks_than_questions_is_one_sentence(start_training: Train):
    process = start_training([*SPREAD, "data.questions_per_step=3", "name=spread_uneven"])
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "data.questions_per_step=3: 2 ranks share a batch evenly; give a multiple of 2" in output, output


def learn(policy_folder: Path, folder: Path) -> None:
    for seed in range(NUM_MIXES):
        if os.environ["LOCAL_RANK"] == "0":
            sys.stdout.write(f"seed {seed}\n")
        torch.save(run(random_mix(seed), policy_folder, sharded=True).metrics, folder / f"{seed}.pt")


def test_no_mix_of_questions_rewards_and_methods_hangs_and_all_begin_as_on_one_rank(runs_folder: Path, tmp_path: Path):
    on_ranks(learn, runs_folder / "policy", tmp_path)
    for seed in range(NUM_MIXES):
        setting = random_mix(seed)
        sys.stdout.write(f"{setting}\n")
        if isinstance(setting.weighting, BatchEntropy):  # its threshold is a token's entropy, which rounding may pass
            continue
        alone, beside = run(setting, runs_folder / "policy").metrics, torch.load(tmp_path / f"{seed}.pt")
        assert beside[0] == pytest.approx(alone[0], rel=1e-4, abs=1e-5), f"seed {seed}"
