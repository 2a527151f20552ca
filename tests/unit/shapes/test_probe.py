"""The probe asks nothing that validation has just asked of the same weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, Trainer

from ktr.config.composing import compose
from ktr.shapes.probe import WorldProbe
from ktr.training.rl_module import VideoRLModule
from ktr.training.run import build_module, load_policy

QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoRLModule, LightningDataModule]:
    few = ["data.validation.num_questions=6", "data.validation_batch_size=3", "data.train.num_questions=1"]
    folder = tmp_path_factory.mktemp("probe")
    config = compose("train", [*few, f"paths.cache={folder}", f"paths.runs={folder}"])
    module = build_module(config, load_policy(config))
    assert isinstance(module, VideoRLModule)
    datamodule = instantiate(config.data, encode=instantiate(config.encoder).encode, check=None, admit=None)
    Trainer(accelerator="cpu", devices=1, **QUIET).validate(module, datamodule, verbose=False)
    return module, datamodule


def probed(parts: tuple[VideoRLModule, LightningDataModule], file: Path, monkeypatch: pytest.MonkeyPatch):
    """What the probe finds, and how many greedy answers it asked for."""
    module, datamodule = parts
    generate, asked = module.engine.generate, []

    def counted(prompts: Any, sampling: Any, seeds: Any) -> Any:
        asked.extend(prompts if sampling.temperature == 0 else [])
        return generate(prompts, sampling, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(module.engine, "generate", counted)
        probe = WorldProbe(num_questions=1, num_completions=2, num_shuffles=1)
        return probe(module, datamodule.val_dataloader(), file), len(asked)


def test_answers_of_validation_are_those_that_the_probe_would_get(parts, tmp_path, monkeypatch):
    module, _ = parts
    reused, num_reused = probed(parts, tmp_path / "a.jsonl", monkeypatch)
    monkeypatch.setattr(module, "validated_at", module.global_step - 1)  # as if an update had come between
    anew, num_anew = probed(parts, tmp_path / "b.jsonl", monkeypatch)
    assert reused == anew and (num_reused, num_anew) == (18, 24)
    assert reused["interventions"]["black_video_all"]["baseline"] == module.validation_summary["greedy"]["accuracy"]


def test_what_is_scored_is_sampled_as_in_training(parts, tmp_path, monkeypatch):
    module, datamodule = parts
    generate, asked = module.engine.generate, []
    monkeypatch.setattr(module, "sampling", replace(module.sampling, temperature=0.7, top_p=0.9))
    monkeypatch.setattr(
        module.engine,
        "generate",
        lambda prompts, sampling, seeds: asked.append(sampling) or generate(prompts, sampling, seeds),
    )
    WorldProbe(num_questions=1, num_completions=2, num_shuffles=1)(module, datamodule.val_dataloader(), tmp_path / "d")
    assert replace(module.sampling, num_completions=2) in asked


def test_answers_to_other_questions_and_of_other_sampling_are_not_reused(parts, tmp_path, monkeypatch):
    module, _ = parts
    (greedy,) = (meter for meter in module.meters.values() if meter.sampling.temperature == 0)
    monkeypatch.setattr(greedy, "summed", dict(list(greedy.summed.items())[1:]))
    assert probed(parts, tmp_path / "c.jsonl", monkeypatch)[1] == 21, (
        "the batch of a question without a verdict is asked"
    )
    assert module.validated(replace(greedy.sampling, max_tokens=9)) == {}
