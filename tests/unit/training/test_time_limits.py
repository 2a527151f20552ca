"""Ranks meet within one limit, and wait for each other within another."""

from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from torch.distributed.distributed_c10d import _get_default_store

from ktr.training.replicated_strategy import ReplicatedStrategy
from ktr.training.sharded_strategy import ShardedStrategy


@pytest.mark.parametrize("strategy", [ReplicatedStrategy, ShardedStrategy])
def test_what_bounds_a_step_does_not_bound_the_meeting(strategy: Any, monkeypatch: pytest.MonkeyPatch):
    limits = {"start_limit_s": 500.0, "time_limit_s": 7.0, "process_group_backend": "gloo"}
    trainer = Trainer(accelerator="cpu", devices=1, strategy=strategy(**limits), logger=False)
    meet, given = dist.init_process_group, {}

    def watched(*arguments: Any, timeout: timedelta, **options: Any) -> None:
        given["meeting"] = timeout
        meet("gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)

    monkeypatch.setattr(dist, "init_process_group", watched)
    for name in ("MASTER_ADDR", "MASTER_PORT"):  # which Lightning sets
        monkeypatch.setenv(name, "0")
    trainer.strategy.connect(LightningModule())
    try:
        trainer.strategy.setup_environment()
        group: Any = dist.group.WORLD
        assert given["meeting"] == timedelta(seconds=500)
        assert group._get_backend(torch.device("cpu")).options._timeout == timedelta(seconds=7)
        store: Any = _get_default_store()
        assert store.timeout == timedelta(seconds=7)
    finally:
        dist.destroy_process_group()
