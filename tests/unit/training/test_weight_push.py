"""Weights that an engine holds are not pushed to it again: spread over ranks, each push gathers all of them."""

from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from ktr.rollout.transformers.engine import TransformersEngine
from tests.tiny_policy import random_prompt
from tests.unit.training.conftest import FixedBatches, MakeModule


class HeldOut(FixedBatches):
    """The questions of training are the held-out ones too."""

    def val_dataloader(self) -> DataLoader[Any]:
        return self.train_dataloader()


@pytest.mark.parametrize(("spread", "pushed"), [(True, [0, 0, 1, 2]), (False, [0, 1, 2])])
def test_a_validation_pushes_no_weights_that_were_pushed(
    make_module: MakeModule, monkeypatch: pytest.MonkeyPatch, spread: bool, pushed: list[int]
):
    monkeypatch.setattr("ktr.training.policy_module.is_sharded", lambda policy: spread)
    versions: list[int] = []
    plain = TransformersEngine.load_weights

    def load_weights(engine: TransformersEngine, named_tensors: Any, version: int) -> None:
        versions.append(version)
        plain(engine, named_tensors, version)

    monkeypatch.setattr(TransformersEngine, "load_weights", load_weights)
    module = make_module()
    data = HeldOut([[random_prompt(module.policy, index)] for index in range(2)])
    trainer = Trainer(
        accelerator="cpu", max_steps=2, val_check_interval=1, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.validate(module, data, verbose=False)
    trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    trainer.validate(module, data, verbose=False)
    assert versions == pushed and module.validated_at == 2
