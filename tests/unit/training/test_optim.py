"""The schedule rises, then falls along a cosine; only matrices decay."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from ktr.errors import ConfigError
from ktr.training.optim import AdamWCosine
from ktr.training.rl_module import VideoRLModule
from tests.tiny_policy import random_prompt
from tests.unit.training.conftest import FixedBatches
from tests.unit.training.overlapped_run import Record, fit


def rates(settings: AdamWCosine, steps: int) -> list[float]:
    optimizer, schedule = settings.build(nn.Linear(2, 2))
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_warm_up_reaches_the_rate_and_the_cosine_ends_at_its_floor():
    seen = rates(AdamWCosine(lr=1.0, total_steps=12, warmup_steps=4, final_lr_fraction=0.1), 13)
    assert seen[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert seen[8] == pytest.approx(0.55)
    assert seen[12] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(seen[4:]))


def test_biases_do_not_decay():
    optimizer, _ = AdamWCosine(lr=0.1, total_steps=2, weight_decay=0.5).build(nn.Linear(3, 2))
    decay = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {(2, 3): 0.5, (2,): 0.0}


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="nothing to train"):
        AdamWCosine(lr=0.1, total_steps=2).build(nn.Linear(2, 2).requires_grad_(False))


def test_a_schedule_goes_on_from_its_state_to_the_bit():
    settings = AdamWCosine(lr=1.0, total_steps=10, warmup_steps=3)
    whole = rates(settings, 10)
    optimizer, schedule = settings.build(nn.Linear(2, 2))
    for _ in range(5):
        optimizer.step()
        schedule.step()
    resumed_optimizer, resumed = settings.build(nn.Linear(2, 2))
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert resumed_optimizer.param_groups[0]["lr"] == whole[5]
    assert torch.tensor(resumed.get_last_lr()[0]) == torch.tensor(whole[5])


def test_a_resumed_run_goes_on_with_the_rate_and_length_that_it_is_given(overlapped, tmp_path: Path):
    """The optimizer's and the schedule's states hold those of the run that saved them."""

    def module(settings: AdamWCosine) -> VideoRLModule:
        made, _ = overlapped(overlap=0)
        made.optimizer_settings = settings
        return made

    old, new = AdamWCosine(lr=1.0, total_steps=4), AdamWCosine(lr=0.5, total_steps=8, final_lr_fraction=0.2)
    fit(module(old), 2, Record(save_at=2, folder=tmp_path))
    resumed = module(new)
    rates = [step["lr"] for step in fit(resumed, 4, resume=tmp_path / "trainer.ckpt").metrics]
    assert rates == pytest.approx([0.5 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * step / 8))) for step in (2, 3)])
    optimizer = resumed.trainer.optimizers[0]
    assert {group["initial_lr"] for group in optimizer.param_groups} == {0.5}
    assert len({group["lr"] for group in optimizer.param_groups}) == 1


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("max_steps", [-1, 4])
def test_the_schedule_spans_a_run_whose_length_is_given_in_epochs(make_module, max_steps: int, updates: int):
    """Two epochs of three batches: the rate falls over all of their updates, or over as many as max_steps allows."""
    module, seen = make_module(updates_per_rollout=updates), list[float]()
    module.optimizer_settings = AdamWCosine(lr=1.0, total_steps=max_steps)
    take_step = module.take_step
    module.take_step = lambda *args: (metrics := take_step(*args), seen.append(metrics["lr"].item()))[0]
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, max_steps=max_steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, FixedBatches([[random_prompt(module.policy, i)] for i in range(3)]))
    total = 6 * updates if max_steps < 0 else 4
    expected = [0.5 * (1 + math.cos(math.pi * step / total)) for step in range(total)]
    assert seen == pytest.approx(expected, abs=1e-6)


def test_a_run_without_a_length_is_refused(make_module):
    trainer = Trainer(accelerator="cpu", max_epochs=-1, max_steps=-1, logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="a run needs a length"):
        trainer.fit(make_module(), FixedBatches([[]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_grad_norm": 0.0},  # every gradient would be zero
        {"max_grad_norm": -1.0},  # and here of the other sign
        {"lr": -1.0},
        {"weight_decay": -0.1},
        {"final_lr_fraction": -1.0},
        {"warmup_steps": -1},
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
    ],
)
def test_what_would_turn_a_step_around_or_leave_nothing_of_it_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*: give "):
        AdamWCosine(**{"lr": 1.0, "total_steps": 4} | wrong)
    AdamWCosine(lr=0.0, total_steps=-1, max_grad_norm=math.inf)
