"""vLLM samples from every family's policy itself: its log-probs are the trainer's, its greedy answers transformers'."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ktr.config.command_line import check_command_line
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.record.step_table import read_columns
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.rollout.vllm.colocate import VLLMColocateEngine
from ktr.rollout.vllm.server import VLLMServerEngine
from ktr.training.run import run_training
from ktr.types import PromptInputs
from tests.tiny_families import FAMILIES, encoder_of, question_about, save_family
from tests.vllm.conftest import largest_difference

CLOSE = 1e-4
ROOM: dict[str, Any] = {"max_model_len": 256, "max_num_seqs": 64, "kv_cache_gib": 0.25, "enforce_eager": True}
SAMPLED, GREEDY = SamplingParams(4, 16), SamplingParams(1, 16, temperature=0.0)
MEDIA = [("6x64x96",), ("1x64x64",), ("2x64x64",), ("4x64x64", "1x96x64"), ("6x64x96", "1x64x64", "4x64x64")]
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "o_proj"], "init_lora_weights": False}
Engines = dict[str, Callable[[Policy, Path], RolloutEngine]]
ENGINES: Engines = {
    "vllm_colocate": lambda policy, _: VLLMColocateEngine(policy, **ROOM),
    "vllm_server": lambda policy, log_dir: VLLMServerEngine(policy, log_dir=log_dir, **ROOM),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("families") / request.param)


def prompts_of(folder: Path) -> list[PromptInputs]:
    encoder = encoder_of(folder)
    return [encoder.encode(question_about(*names)) for names in MEDIA]


@torch.no_grad()
def perturb(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(7)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_the_policy_before_and_after_a_push(folder: Path, tmp_path: Path, name: str):
    policy, prompts = load_policy(folder).eval(), prompts_of(folder)
    engine = ENGINES[name](policy, tmp_path)
    for version in (0, 1):
        if version:
            perturb(policy)
            engine.load_weights(policy.named_weights(), version)
        sampled = engine.generate(prompts, SAMPLED, seeds=range(len(prompts)))
        assert largest_difference(policy, sampled, SAMPLED) < CLOSE
        ours = TransformersEngine(policy).generate(prompts, GREEDY, seeds=range(len(prompts)))
        theirs = engine.generate(prompts, GREEDY, seeds=range(len(prompts)))
        for a, b in zip(ours, theirs, strict=True):
            assert a.completions[0].token_ids_T.tolist() == b.completions[0].token_ids_T.tolist()
    engine.close()


@pytest.mark.parametrize("lora", ["merged", "adapters"])
def test_adapters_reach_the_engine(folder: Path, lora: Any):
    policy, prompts = load_policy(folder, lora=LORA).eval(), prompts_of(folder)
    engine = VLLMColocateEngine(policy, lora=lora, **ROOM)
    for version in (0, 1):
        if version:
            perturb(policy)
            engine.load_weights(policy.named_weights(), version)
        groups = engine.generate(prompts, SAMPLED, seeds=range(len(prompts)))
        assert largest_difference(policy, groups, SAMPLED) < CLOSE
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_three_steps_of_video_ktr(folder: Path, tmp_path: Path, ktr_folders: Path, name: str):
    (config,) = check_command_line(
        "train",
        [
            f"model.path={folder}",
            f"rollout={name}",
            "rollout.max_num_seqs=16",
            "rollout.kv_cache_gib=0.25",
            "rollout.enforce_eager=true",
            f"paths.runs={tmp_path}",
            f"paths.cache={ktr_folders}",
            "data.train.num_questions=12",
            "data.validation.num_questions=2",
            "data.questions_per_step=2",
            "sampling.num_completions=3",
            "sampling.max_tokens=8",
            "trainer.max_steps=3",
            "probe=none",
            "reward.rewards.format={_target_: tests.even_tokens.ShareOfEvenTokens}",
        ],
    )
    columns = read_columns(run_training(config) / "metrics.csv")
    assert columns["loss/total"][0] == [1, 2, 3] and any(columns["loss/total"][1])
    assert max(columns["rollout/mismatch/max"][1]) < CLOSE
