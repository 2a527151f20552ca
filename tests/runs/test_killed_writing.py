"""A run that is killed while it writes checkpoints, at any moment, leaves whole ones only and goes on from the last."""

import os
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from ktr.config.resumption import PARTIAL, checkpoints, step_of
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.ranks import whole
from ktr.rewards.composite import CompositeReward
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.training.checkpoint import TRAINER_STATE, ModelFolderCheckpoint, StateFile
from ktr.training.optim import AdamWCosine
from ktr.training.policy_module import PolicyModule
from ktr.training.sharded_state import MOMENTS
from ktr.training.sharded_strategy import ShardedStrategy
from tests.sharded_run import EvenShare
from tests.spawned import start_ranks
from tests.unit.training.conftest import FixedBatches

NUM_KILLS, NUM_STEPS = 20, 10_000  # more steps than any of them lives to take


class Counting(PolicyModule):
    """After update n all weights and moments are n: a value tells of which checkpoint it is."""

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.global_step:
            assert {value for tensor in self._tensors() for value in values(whole(tensor))} == {self.global_step}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self.policy.zero_grad()
        self.take_step({}, [])
        with torch.no_grad():
            for tensor in self._tensors():
                tensor.fill_(float(self.global_step))
        return {}

    def _tensors(self) -> list[Tensor]:
        state = self.trainer.optimizers[0].state
        return [tensor for parameter in state for tensor in (parameter, *(state[parameter][name] for name in MOMENTS))]


def values(tensor: Tensor) -> set[float]:
    return set(tensor.detach().unique().tolist())


def write(policy_folder: Path, folder: Path, sharded: bool) -> None:
    """Checkpoints without an end, each after an update, from the last that there is."""
    last = next(reversed(checkpoints(folder)), None)
    policy = QwenVLPolicy(policy_folder)
    if last is not None:
        policy.load_trained(last)
    module = Counting(
        policy=policy,
        engine=TransformersEngine(policy),
        reward=CompositeReward({"accuracy": EvenShare()}),
        optimizer=AdamWCosine(lr=0.0, total_steps=NUM_STEPS),
        validation_sampling={},
        failure_dir=folder / "failure",
        seed=0,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        strategy=ShardedStrategy(time_limit_s=300) if sharded else "auto",
        max_steps=NUM_STEPS,
        logger=False,
        callbacks=[ModelFolderCheckpoint(folder, every_n_steps=1)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    state = None if last is None else last / TRAINER_STATE
    trainer.fit(module, FixedBatches([[]] * NUM_STEPS), ckpt_path=state, weights_only=True)


def size_of(folder: Path) -> int:
    """Bytes of the files that are there by now."""
    size = 0
    for parent, _, names in os.walk(folder):  # which minds no folder that is gone meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                size += os.path.getsize(os.path.join(parent, name))
    return size


def last_step(folder: Path) -> int:
    return max(map(step_of, checkpoints(folder)), default=0)


def killed_at_random(rng: random.Random, policy_folder: Path, folder: Path, sharded: bool) -> tuple[int, int]:
    """Kill a writer in the midst of one of its next checkpoints; the last that was whole, and bytes of that one."""
    first, more, share = last_step(folder), rng.randint(1, 2), rng.random()
    size = size_of(checkpoints(folder)[-1]) if first else 0
    running = start_ranks(write, policy_folder, folder, sharded, num_ranks=2 if sharded else 1)
    try:
        while True:
            done = last_step(folder)
            written = sum(map(size_of, folder.glob(f"*{PARTIAL}")))
            if done >= first + more and (written > share * size or done > first + more + 3):
                return done, written
            assert all(process.is_alive() for process in running.processes)
            os.sched_yield()
    finally:
        for process in rng.sample(running.processes, len(running.processes)):
            process.kill()
        for process in running.processes:
            process.join()


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("sharded", [True, False], ids=["in parts by two ranks", "whole by one"])
def test_twenty_kills_leave_whole_checkpoints_only_each_time(runs_folder: Path, tmp_path: Path, sharded: bool):
    policy = QwenVLPolicy(runs_folder / "policy")
    num_tensors = len(list(policy.parameters()))
    tmp_path.joinpath("failure").mkdir()
    for seed in range(NUM_KILLS):
        done, written = killed_at_random(random.Random(seed), runs_folder / "policy", tmp_path, sharded)
        sys.stdout.write(f"seed {seed}: {done} whole, {written} bytes of the next: {sorted(os.listdir(tmp_path))}\n")
        assert last_step(tmp_path) >= done > 0
        for checkpoint in checkpoints(tmp_path):
            step = step_of(checkpoint)
            policy.load_trained(checkpoint)
            assert {value for parameter in policy.parameters() for value in values(parameter)} == {step}, checkpoint
            state = StateFile().load_checkpoint(checkpoint / TRAINER_STATE, weights_only=True)
            moments = [of_one[name] for of_one in state["optimizer_states"][0]["state"].values() for name in MOMENTS]
            assert state["global_step"] == step and len(moments) == len(MOMENTS) * num_tensors
            assert {value for moment in moments for value in values(moment)} == {step}, checkpoint
