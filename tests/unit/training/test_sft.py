"""Supervised training where nothing is left to learn from."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ktr.errors import ConfigError
from ktr.rewards.composite import CompositeReward
from ktr.scoring.scorer import GroupScorer
from ktr.training.demonstrations import Demonstrations
from ktr.training.gradient_alignment import GradientAlignment
from ktr.training.optim import AdamWCosine
from ktr.training.sft_module import SFTModule
from tests.tiny_policy import fresh_policy
from tests.unit.training.conftest import ShareOfWord
from tests.unit.training.overlapped_run import NeighbourEngine, Record, fit


class Weightless(Demonstrations):
    """No word counts."""

    def weights(self, question: Any, tokenizer: Any) -> Any:
        return torch.zeros_like(super().weights(question, tokenizer))


def module(policy_folder: Path, demonstrations: Demonstrations, temperature: float = 1.0, **parts: Any) -> SFTModule:
    return SFTModule(
        policy=fresh_policy(policy_folder),
        engine=NeighbourEngine(policy_folder, overlap=0),
        scorer=GroupScorer(temperature),
        reward=CompositeReward({"even": ShareOfWord()}),
        demonstrations=demonstrations,
        optimizer=AdamWCosine(lr=1e-3, total_steps=2),
        validation_sampling={},
        failure_dir="failure",
        **parts,
    )


def test_a_batch_in_which_no_token_has_a_weight_is_a_step_of_zero(policy_folder: Path):
    record = fit(module(policy_folder, Weightless()), 2)
    assert [(step["loss/total"], step["grad/norm"]) for step in record.metrics] == [(0.0, 0.0)] * 2


def test_demonstrations_are_scored_as_the_model_has_them_whatever_is_sampled_at(policy_folder: Path):
    losses = [
        [step["loss/total"] for step in fit(module(policy_folder, Demonstrations(), temperature), 2).metrics]
        for temperature in (1.0, 0.5)
    ]
    assert losses[0] == losses[1]


def test_steps_for_auxiliary_losses_need_one(policy_folder: Path):
    with pytest.raises(ConfigError, match=r"algorithm\.auxiliary_steps=2: .*give one, or auxiliary_steps=0"):
        module(policy_folder, Demonstrations(), auxiliary_steps=2)


def test_an_observer_of_rollouts_leaves_supervised_training_alone(policy_folder: Path):
    """algorithm=sft keeps the observers that are on by default."""
    record = Record()
    callbacks = [record, GradientAlignment(every_n_steps=1)]
    watched = fit(module(policy_folder, Demonstrations()), 2, record, callbacks=callbacks)
    alone = fit(module(policy_folder, Demonstrations()), 2)
    assert [step["loss/total"] for step in watched.metrics] == [step["loss/total"] for step in alone.metrics]


@pytest.mark.usefixtures("only_lightning_asks_for_its_device")
def test_all_is_computed_where_the_policy_is(policy_folder: Path):
    fit(module(policy_folder, Demonstrations()), 1)
