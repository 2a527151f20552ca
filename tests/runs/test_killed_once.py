"""A run that is killed in the middle and started again is the run that nothing disturbed, to the bit."""

import json
import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from ktr.training.checkpoint import checkpoints
from tests.small_run import Train, finished

STEPS = ["trainer.max_steps=6", "callbacks.model_checkpoint.every_n_steps=2"]


def test_it_is_the_same_to_the_bit(start_training: Train, runs_folder: Path):
    whole_run, run_dir = (runs_folder / "runs" / name for name in ("whole", "killed"))
    finished(start_training([*STEPS, "name=whole"]))
    victim = start_training([*STEPS, "name=killed"])
    # SIGKILL as soon as a checkpoint is there, wherever in the next step that is
    while not checkpoints(run_dir / "checkpoints"):
        assert victim.poll() is None, victim.communicate()[0]
        os.sched_yield()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not (run_dir / "summary.json").exists()

    finished(start_training([*STEPS, "name=killed"]))
    assert json.loads((run_dir / "record.json").read_text())["resumed"]
    for name in ("metrics.csv", "rollouts.jsonl"):
        assert (run_dir / name).read_bytes() == (whole_run / name).read_bytes(), name
    resumed, whole = (load_file(path / "policy" / "model.safetensors") for path in (run_dir, whole_run))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
