"""FSDP2 on one card learns what the policy as it is does: nccl, the world of one rank."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from benchmarks.gpu.update import ours
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.ranks import is_spread
from ktr.training.equal_passes import EqualPasses
from ktr.training.optim import AdamWCosine
from ktr.training.sharding import shard
from tests.tiny_policy import random_group


@pytest.fixture
def one_rank(device: torch.device) -> Iterator[None]:
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


def learned(folder: Path, device: torch.device, sharded: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of three updates, and the weights behind them."""
    policy = QwenVLPolicy(folder, freeze=["vision"], gradient_checkpointing=True).to(device)
    if sharded:
        shard(policy, init_device_mesh(device.type, (1,)))
        EqualPasses(policy)
        assert all(map(is_spread, policy.parameters()))
    optimizer, _ = AdamWCosine(lr=1e-4, total_steps=10).build(policy)
    losses = []
    for update in range(3):
        losses.append(ours(policy, random_group(policy, update, [5, 9, 3]), "video_ktr"))
        optimizer.step()
    return losses, {name: weight.detach().cpu() for name, weight in policy.named_weights()}


def test_one_card_learns_what_it_would_unsharded(policy_folder: Path, device: torch.device, one_rank: None):
    (losses, weights), (spread_losses, spread) = (learned(policy_folder, device, sharded) for sharded in (False, True))
    assert spread_losses == pytest.approx(losses, abs=1e-5)
    assert spread.keys() == weights.keys()
    start = dict(QwenVLPolicy(policy_folder).named_weights())
    for name, weight in weights.items():
        # AdamW's steps have the sign of the gradient: where that is next to zero, the last bit of a sum decides.
        assert (spread[name] - weight).norm() <= 0.05 * (weight - start[name]).norm(), name
