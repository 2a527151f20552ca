"""Any observer can be left out of a run, and a run without one needs no word about it."""

import pytest
from lightning.pytorch.callbacks import ProgressBar

from ktr.config.composing import compose
from ktr.training.run import build_trainer

OBSERVERS = tuple(compose("train", []).callbacks)
WITHOUT = [f"callbacks.{name}=null" for name in OBSERVERS] + [f"~callbacks.{name}" for name in OBSERVERS]


@pytest.mark.parametrize(
    "override", [*WITHOUT, "callbacks=none", "trainer.enable_progress_bar=false", "logger.csv=null"]
)
def test_a_trainer_has_the_observers_that_are_left(override: str, tmp_path):
    trainer = build_trainer(compose("train", [override, f"paths.runs={tmp_path}"]))
    left = {"callbacks=none": 0, "logger.csv=null": len(OBSERVERS)}.get(override, len(OBSERVERS) - 1)
    ours = [callback for callback in trainer.callbacks if type(callback).__module__.startswith("ktr.")]
    assert len(ours) == left and len(trainer.loggers) == (override != "logger.csv=null")
    no_bar = "progress" in override or override == "callbacks=none"
    assert any(isinstance(callback, ProgressBar) for callback in trainer.callbacks) is not no_bar
