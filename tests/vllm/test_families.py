"""vLLM samples from every family's policy itself: its log-probs are the trainer's, its greedy answers transformers'."""

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import ktr.rollout.vllm.member  # noqa: F401  vLLM, before two threads would import it
from ktr.errors import ConfigError
from ktr.policy.families import load_policy
from ktr.policy.family import Policy
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.rollout.vllm.colocate import VLLMColocateEngine
from ktr.rollout.vllm.server import VLLMServerEngine
from ktr.types import PromptInputs
from tests.family_run import three_steps
from tests.tiny_families import FAMILIES, SEVERAL, encoder_of, question_about, save_family
from tests.vllm.conftest import largest_difference

CLOSE = 1e-4
ROOM: dict[str, Any] = {"max_model_len": 256, "max_num_seqs": 64, "kv_cache_gib": 0.25, "enforce_eager": True}
SAMPLED, GREEDY = SamplingParams(4, 12), SamplingParams(1, 12, temperature=0.0)
MEDIA = [("6x64x96",), ("1x64x64",), ("2x64x64",), ("4x64x64", "1x96x64"), SEVERAL]
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "o_proj"], "init_lora_weights": False}
Starting = Future[VLLMServerEngine]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save_family(family, tmp_path_factory.mktemp("families") / family) for family in FAMILIES}


@pytest.fixture(scope="module", autouse=True)
def servers(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Starting]]:
    """One a family: they start in turn while the engines of this process are tested, for that takes longest of all."""
    engines = {
        family: VLLMServerEngine(load_policy(folder).eval(), log_dir=tmp_path_factory.mktemp(family), **ROOM)
        for family, folder in folders.items()
    }

    def start(engine: VLLMServerEngine) -> VLLMServerEngine:
        engine.load_weights(engine.policy.named_weights(), 0)
        return engine

    thread = ThreadPoolExecutor(max_workers=1)
    yield {family: thread.submit(start, engine) for family, engine in engines.items()}
    thread.shutdown(cancel_futures=True)
    for engine in engines.values():
        engine.close()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, folders: dict[str, Path]) -> Path:
    return folders[family]


@pytest.fixture(scope="module")
def server(family: str, servers: dict[str, Starting]) -> Starting:
    return servers[family]


@pytest.fixture(scope="module")
def prompts(folder: Path) -> list[PromptInputs]:
    encoder = encoder_of(folder)
    return [encoder.encode(question_about(*names)) for names in MEDIA]


@pytest.fixture(autouse=True)
def no_slow_extras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """vLLM collects garbage at each start and end, among all that it and transformers have imported."""
    gc.freeze()
    monkeypatch.setattr("ktr.training.run.write_report", lambda _: None)  # its figures
    yield
    gc.unfreeze()


@torch.no_grad()
def perturb(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(7)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def check_samples(engine: RolloutEngine, policy: Policy, prompts: Sequence[PromptInputs]) -> None:
    sampled = engine.generate(prompts, SAMPLED, seeds=range(len(prompts)))
    assert largest_difference(policy, sampled, SAMPLED) < CLOSE


def check_before_and_after_a_push(engine: Any, prompts: Sequence[PromptInputs]) -> None:
    """Of samples the log-probs, and greedy answers token by token."""
    for version in (0, 1):
        if version:
            perturb(engine.policy)
            engine.load_weights(engine.policy.named_weights(), version)
        check_samples(engine, engine.policy, prompts)
        ours, theirs = (
            [
                group.completions[0].token_ids_T.tolist()
                for group in of.generate(prompts, GREEDY, seeds=[0] * len(prompts))
            ]
            for of in (TransformersEngine(engine.policy), engine)
        )
        assert ours == theirs


def check_three_steps(folder: Path, runs: Path, cache: Path, *overrides: str) -> None:
    room = "rollout.max_num_seqs=16", "rollout.kv_cache_gib=0.25", "rollout.enforce_eager=true"
    columns = three_steps(folder, runs, cache, *overrides, *room)
    assert max(columns["rollout/mismatch/max"][1]) < CLOSE


def test_a_colocated_engine_is_the_policy_before_and_after_a_push_and_with_adapters_merged(
    folder: Path, prompts: list[PromptInputs]
):
    engine = VLLMColocateEngine(load_policy(folder).eval(), **ROOM)
    check_before_and_after_a_push(engine, prompts)
    adapted = load_policy(folder, lora=LORA).eval()
    engine.load_weights(adapted.named_weights(), 2)
    check_samples(engine, adapted, prompts)
    engine.close()


def test_adapters_reach_a_colocated_engine(folder: Path, prompts: list[PromptInputs]):
    policy = load_policy(folder, lora=LORA).eval()
    if policy.has_experts:
        with pytest.raises(ConfigError, match=r"rollout\.lora=merged"):
            VLLMColocateEngine(policy, lora="adapters", **ROOM)
        return
    engine = VLLMColocateEngine(policy, lora="adapters", **ROOM)
    for version in (0, 1):
        if version:
            perturb(policy)
            engine.load_weights(policy.named_weights(), version)
        check_samples(engine, policy, prompts)
    engine.close()


def test_three_steps_of_video_ktr_with_a_colocated_engine(folder: Path, tmp_path: Path, ktr_folders: Path):
    check_three_steps(folder, tmp_path, ktr_folders, "rollout=vllm_colocate")


def test_a_server_is_the_policy_before_and_after_a_push(server: Starting, prompts: list[PromptInputs]):
    check_before_and_after_a_push(server.result(), prompts)


def test_three_steps_of_video_ktr_with_a_server(
    folder: Path, server: Starting, tmp_path: Path, ktr_folders: Path, monkeypatch: pytest.MonkeyPatch
):
    """One that runs already; how a run starts its own is the same for all families (test_server.py)."""
    (member,) = server.result().pool._members
    running: Any = member.server
    monkeypatch.setenv("KTR_VLLM_API_KEY", running.key)
    check_three_steps(folder, tmp_path, ktr_folders, "rollout=vllm_server", f"rollout.addresses=[{running.address}]")
