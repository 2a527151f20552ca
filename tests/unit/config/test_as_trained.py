"""A policy in a run's folder is asked with the run's video, prompt and sampling, but for what the command line says."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from ktr.config.as_trained import ask_as_trained
from ktr.config.composing import compose


@pytest.fixture(scope="module")
def trained() -> DictConfig:
    return compose("train", ["video.num_frames=8", "sampling.max_tokens=33", "prompt.instruction='so ?'"])


@pytest.fixture
def run(tmp_path: Path, trained: DictConfig) -> Path:
    OmegaConf.save(trained, tmp_path / "config.yaml", resolve=True)
    (tmp_path / "record.json").touch()
    return tmp_path


@pytest.mark.parametrize("policy", ["policy", "checkpoints/step-000002"])
def test_frames_pixels_prompt_and_sampling_are_those_of_the_run(run: Path, policy: str):
    config = compose("attribute_own", [])
    config.model.path = str(run / policy)
    ask_as_trained(config, [])
    OmegaConf.resolve(config)
    assert (config.video.num_frames, config.video.max_pixels, config.prompt.instruction) == (8, 56 * 56, "so ?")
    assert (config.sampling.max_tokens, config.sampling.num_completions, config.encoder.max_answer_tokens) == (
        33,
        4,
        33,
    )
    assert config.attribution.signals.temporal.granularity == "temporal_patch"


def test_what_the_command_line_says_stands(run: Path):
    overrides = ["video.max_pixels=12544", "prompt=reasoning", "sampling.num_completions=2"]
    config = compose("attribute_own", overrides)
    config.model.path = str(run / "policy")
    ask_as_trained(config, overrides)
    assert (config.video.max_pixels, config.video.num_frames, config.sampling.num_completions) == (12544, 8, 2)
    assert "instruction" not in config.prompt


def test_a_model_of_no_run_keeps_what_was_chosen(run: Path):
    (run / "record.json").unlink()
    config = compose("attribute_own", [])
    config.model.path = str(run / "policy")
    before = OmegaConf.to_yaml(config)
    ask_as_trained(config, [])
    assert OmegaConf.to_yaml(config) == before


def test_a_class_from_elsewhere_is_not_built_for_a_folder_s_sake(run: Path, caplog: pytest.LogCaptureFixture):
    trained = OmegaConf.load(run / "config.yaml")
    trained.prompt = {"_target_": "ktr.data.prompts.PromptTemplate", "instruction": {"_target_": "os.getcwd"}}
    OmegaConf.save(trained, run / "config.yaml")
    config = compose("attribute_own", [])
    config.model.path = str(run / "policy")
    before = OmegaConf.to_container(config.prompt)
    with caplog.at_level("WARNING"):
        ask_as_trained(config, [])
    assert OmegaConf.to_container(config.prompt) == before and config.video.num_frames == 8
    assert "its prompt has a class from elsewhere" in caplog.text


@pytest.mark.parametrize(("benchmark", "frames"), [("videomme", 16), ("shapes", 8), ("own", 8)])
def test_a_published_benchmark_has_the_prompt_of_the_run_and_the_frames_of_the_evaluation(
    run: Path, benchmark: str, frames: int
):
    files = ["benchmark.annotations=a.json", "benchmark.media_root=."] if benchmark == "own" else []
    config = compose("evaluate", [f"benchmark={benchmark}", *files])
    config.model.path = str(run / "policy")
    ask_as_trained(config, [])
    assert (config.prompt.instruction, config.video.num_frames) == ("so ?", frames)
    assert config.sampling.max_tokens == (1024 if benchmark == "videomme" else 33)
