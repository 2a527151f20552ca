"""An in-process vLLM samples from the policy itself: its log-probs are the trainer's, before and after every push."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ktr.algorithm.importance import mismatch
from ktr.errors import ConfigError, EngineError
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.rollout.vllm.colocate import VLLMColocateEngine
from ktr.rollout.vllm.requests import PositionCheck
from ktr.types import Medium, PromptInputs
from tests.tiny_policy import GRID, IMAGE, SEVERAL_MEDIA, random_prompt
from tests.vllm.colocated import SAMPLING, SEEDS, build, random_prompts
from tests.vllm.conftest import Difference, largest_difference, trainer_logps

CLOSE = 1e-4


@pytest.fixture(scope="module")
def engine(policy: QwenVLPolicy) -> Iterator[VLLMColocateEngine]:
    engine = build(policy)
    engine._ensure_started()  # any test may be the first to use it
    yield engine
    engine.close()


def test_a_gpu_runs_the_runner_that_these_tests_run(engine: VLLMColocateEngine, monkeypatch: pytest.MonkeyPatch):
    """vLLM has two, and takes the other where Triton is."""
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)
    assert not engine._engine.vllm_config.use_v2_model_runner


@pytest.fixture(scope="module")
def prompts(policy: QwenVLPolicy) -> list[PromptInputs]:
    return random_prompts(policy)


@pytest.fixture
def restored(policy: QwenVLPolicy, engine: VLLMColocateEngine) -> Iterator[None]:
    """The weights that a test changes come back, in the policy and in the engine."""
    before = {name: tensor.clone() for name, tensor in policy.named_weights()}
    yield
    policy.model.load_state_dict(before)
    engine.load_weights(policy.named_weights(), 0)


@torch.no_grad()
def perturb(policy: QwenVLPolicy, part: Callable[[str], bool] = lambda name: True, scale: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, parameter in policy.model.named_parameters():
        if part(name):
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLING,
        replace(SAMPLING, temperature=0.6),
        replace(SAMPLING, temperature=1.7),
        replace(SAMPLING, top_p=0.7),
        replace(SAMPLING, temperature=0.6, top_p=0.7),
        replace(SAMPLING, temperature=0.0),
        replace(SAMPLING, num_completions=1),
    ],
    ids=str,
)
def test_log_probs_are_the_trainers(
    engine: VLLMColocateEngine, prompts: list[PromptInputs], difference: Difference, sampling: SamplingParams
):
    groups = engine.generate(prompts, sampling, SEEDS)
    assert [len(group.completions) for group in groups] == [sampling.num_completions] * 4
    assert difference(groups, sampling) < CLOSE


def test_the_mismatch_is_what_a_perturbation_of_the_pushed_weights_makes_it(
    engine: VLLMColocateEngine, policy: QwenVLPolicy, prompts: list[PromptInputs], policy_folder: Path, restored: None
):
    """Read from the engine's log-probs, it is the mismatch between the policy and the weights that were pushed."""
    pushed = QwenVLPolicy(policy_folder).eval()
    perturb(pushed, scale=0.02)
    engine.load_weights(pushed.named_weights(), 1)
    groups = engine.generate(prompts, SAMPLING, SEEDS)
    for group in groups:
        ours, theirs = (trainer_logps(model, group) for model in (policy, pushed))
        mask = group.completion_mask_GT
        read, made = mismatch(ours, group.engine_logps_GT, mask), mismatch(ours, theirs, mask)
        assert float(made.largest) > 0.05
        for figure in ("absolute", "kl", "largest"):
            torch.testing.assert_close(getattr(read, figure), getattr(made, figure), rtol=1e-3, atol=1e-3)


def test_top_p_cuts_what_is_sampled(engine: VLLMColocateEngine, prompts: list[PromptInputs]):
    cut = engine.generate(prompts, replace(SAMPLING, top_p=0.1), SEEDS)
    whole = engine.generate(prompts, SAMPLING, SEEDS)
    least = [min(float(c.logps_T.min()) for group in groups for c in group.completions) for groups in (cut, whole)]
    assert least[0] > least[1] + 1


def test_images_are_answered_too(engine: VLLMColocateEngine, policy: QwenVLPolicy, difference: Difference):
    image = random_prompt(policy, 3, [IMAGE])
    assert difference(engine.generate([image], SAMPLING, [1]), SAMPLING) < CLOSE


def test_several_media_are_answered_as_the_transformers_engine_does(
    engine: VLLMColocateEngine, policy: QwenVLPolicy, difference: Difference
):
    prompts = [random_prompt(policy, i, media) for i, media in enumerate(SEVERAL_MEDIA)]
    assert difference(engine.generate(prompts, SAMPLING, range(len(prompts))), SAMPLING) < CLOSE
    greedy = SamplingParams(num_completions=1, temperature=0.0, max_tokens=24)
    ours, theirs = (e.generate(prompts, greedy, range(len(prompts))) for e in (TransformersEngine(policy), engine))
    for a, b in zip(ours, theirs, strict=True):
        assert a.completions[0].token_ids_T.tolist() == b.completions[0].token_ids_T.tolist()


@pytest.mark.parametrize(("part", "scale"), [("visual", 0.3), ("language_model", 0.05), ("embed_tokens", 0.3)])
def test_a_push_reaches_every_part_and_every_cache(
    engine: VLLMColocateEngine,
    policy: QwenVLPolicy,
    prompts: list[PromptInputs],
    difference: Difference,
    restored: None,
    part: str,
    scale: float,
):
    engine.generate(prompts, SAMPLING, SEEDS)  # fills the prefix and encoder caches with these prompts
    perturb(policy, lambda name: part in name, scale)
    assert difference(engine.generate(prompts, SAMPLING, SEEDS), SAMPLING) > 100 * CLOSE
    engine.load_weights(policy.named_weights(), 5)
    groups = engine.generate(prompts, SAMPLING, SEEDS)
    assert difference(groups, SAMPLING) < CLOSE
    assert {c.weights_version for group in groups for c in group.completions} == {5}


def test_every_tensor_of_the_policy_is_needed(policy: QwenVLPolicy):
    """Left out of a push, any one of them is noticed: those that vLLM fuses, the norms, the biases, the head."""
    engine = build(policy)
    weights = list(policy.named_weights())
    one_of_each_kind = {name.split(".")[-2] + name.split(".")[-1]: name for name, _ in weights}
    probe = engine_that_pushes_again(engine)
    for missing in one_of_each_kind.values():
        with pytest.raises(EngineError, match="left out"):
            probe([(name, tensor) for name, tensor in weights if name != missing])
    engine.close()


def engine_that_pushes_again(engine: VLLMColocateEngine) -> Callable[[list[Any]], None]:
    """Pushes without the fresh start after a failed push, which would take seconds for each tensor."""
    engine.load_weights(engine.policy.named_weights(), 0)
    worker = engine._engine.engine_core.engine_core.model_executor.driver_worker.worker

    def push(weights: list[Any]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "close", lambda: setattr(worker, "_weight_update_active", False))
            engine.load_weights(weights, 1)

    return push


def test_an_unknown_name_is_refused_and_the_next_use_starts_afresh(policy: QwenVLPolicy, prompts: list[PromptInputs]):
    engine = build(policy)
    with pytest.raises(EngineError, match="not taken over"):
        engine.load_weights([*policy.named_weights(), ("model.language_model.layers.9.bogus", torch.zeros(1))], 1)
    groups = engine.generate(prompts, SAMPLING, SEEDS)
    assert largest_difference(policy, groups, SAMPLING) < CLOSE
    engine.close()


def test_vision_ids_are_never_sampled(
    engine: VLLMColocateEngine,
    policy: QwenVLPolicy,
    prompts: list[PromptInputs],
    difference: Difference,
    restored: None,
):
    """Not even by a policy that puts nearly everything on them."""
    hidden = engine.generate(prompts, SAMPLING, SEEDS)
    assert hidden
    with torch.no_grad():
        weight, banned = policy.model.lm_head.weight, policy.banned_ids
        weight[banned] = 3 * weight.abs().amax() * weight[banned].sign()
    engine.load_weights(policy.named_weights(), 1)
    for sampling in (SAMPLING, replace(SAMPLING, temperature=0.0)):
        groups = engine.generate(prompts, sampling, SEEDS)
        sampled = torch.cat([c.token_ids_T for group in groups for c in group.completions])
        assert not torch.isin(sampled, policy.banned_ids).any()
        assert difference(groups, sampling) < 10 * CLOSE  # logits are large here


def test_a_prompt_and_its_seed_fix_its_completions(engine: VLLMColocateEngine, prompts: list[PromptInputs]):
    together = engine.generate(prompts, SAMPLING, SEEDS)
    backwards = engine.generate(prompts[::-1], SAMPLING, SEEDS[::-1])[::-1]
    (alone,) = engine.generate(prompts[2:3], SAMPLING, SEEDS[2:3])
    other = engine.generate(prompts, SAMPLING, [5, 6, 7, 8])
    for a, b in zip(together, backwards, strict=True):
        assert torch.equal(a.completion_ids_GT, b.completion_ids_GT)
    assert torch.equal(alone.completion_ids_GT, together[2].completion_ids_GT)
    assert not any(
        torch.equal(a.completions[0].token_ids_T, b.completions[0].token_ids_T)
        for a, b in zip(together, other, strict=True)
    )
    assert len({tuple(c.token_ids_T.tolist()) for c in together[0].completions}) > 4


def test_completions_end_at_eos_or_at_the_limit(engine: VLLMColocateEngine, policy: QwenVLPolicy, prompts: Any):
    for group in engine.generate(prompts, SAMPLING, SEEDS):
        for completion in group.completions:
            ids = completion.token_ids_T.tolist()
            assert not set(ids[:-1]) & set(policy.eos_token_ids)
            assert (completion.finish_reason == "stop") == (ids[-1] in policy.eos_token_ids)
            assert completion.finish_reason == "stop" or len(ids) == SAMPLING.max_tokens


def test_every_end_is_an_end(
    engine: VLLMColocateEngine, policy: QwenVLPolicy, prompts: Any, monkeypatch: pytest.MonkeyPatch
):
    words = [c.token_ids_T[1:-1] for group in engine.generate(prompts, SAMPLING, SEEDS) for c in group.completions]
    ends = (*policy.eos_token_ids, int(torch.cat(words).mode().values))
    monkeypatch.setitem(policy.__dict__, "eos_token_ids", ends)
    completions = [c for group in engine.generate(prompts, SAMPLING, SEEDS) for c in group.completions]
    assert not any(set(c.token_ids_T[:-1].tolist()) & set(ends) for c in completions)
    last = [int(c.token_ids_T[-1]) for c in completions if c.finish_reason == "stop"]
    assert last.count(ends[-1]) > 0 and set(last) <= set(ends)


def test_other_positions_than_the_models_are_refused(engine: VLLMColocateEngine, prompts: list[PromptInputs]):
    """By the rule of transformers ≥ 5.3 the text after a video goes on at max(h, w) / merge."""
    prompt = prompts[0]
    positions = prompt.positions_3P.clone()
    end = int((positions != positions[0]).any(0).nonzero().max()) + 1
    positions[:, end:] -= 3
    for wrong in (replace(prompt, positions_3P=positions), replace(prompt, media=(Medium("video", GRID, 1.5),))):
        with pytest.raises(EngineError, match="positions"):
            PositionCheck()([wrong], engine.policy, engine._prompt_positions, "vLLM")
    PositionCheck()([prompt], engine.policy, engine._prompt_positions, "vLLM")


def test_every_time_between_patches_gives_the_models_positions(engine: VLLMColocateEngine, prompts: list[PromptInputs]):
    """Times at which products fall on either side of a whole number, depending on the precision."""
    prompt, config = prompts[0], engine.policy.model.config
    visual_P = engine.policy.is_visual(prompt.input_ids_P)
    for seconds in (0.7, 0.1, 1 / 3, 0.35, 2.1, 0.0333, 1001 / 30000, 13.37):
        media = [Medium("video", GRID, seconds)]
        positions = mrope_positions(visual_P, media, 2, config.vision_config.tokens_per_second)
        place = visual_P.tolist().index(True)
        layout = prompt.num_tokens, [("video", place, list(GRID), seconds)]
        assert engine._prompt_positions(*layout) == positions.tolist()


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_sent(engine: VLLMColocateEngine, prompts: Any):
    with pytest.raises(EngineError, match="max_model_len=128"):
        engine.generate(prompts, replace(SAMPLING, max_tokens=100), SEEDS)


def test_the_trainers_generators_and_threads_stay_as_they_are(engine: VLLMColocateEngine, prompts: Any):
    before = torch.get_rng_state(), torch.get_num_threads()
    engine.generate(prompts, SAMPLING, SEEDS)
    engine.load_weights(engine.policy.named_weights(), 0)
    assert torch.equal(torch.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]


def test_weights_can_be_pushed_after_an_evaluation_in_inference_mode(policy: QwenVLPolicy, prompts: Any):
    engine = build(policy)
    with torch.inference_mode():
        engine.generate(prompts, SAMPLING, SEEDS)
    engine.load_weights(policy.named_weights(), 1)
    assert largest_difference(policy, engine.generate(prompts, SAMPLING, SEEDS), SAMPLING) < CLOSE
    engine.close()


def test_a_colocated_engine_does_not_overlap(policy: QwenVLPolicy):
    with pytest.raises(ConfigError, match="vllm_server"):
        build(policy, overlap=1)


def test_200_pushes_leave_nothing_behind(engine: VLLMColocateEngine, policy: QwenVLPolicy, prompts: Any):
    def held() -> dict[str, int]:
        status = Path("/proc/self/status").read_text().split()
        return {
            "memory": int(status[status.index("VmRSS:") + 1]),
            "threads": threading.active_count(),
            "files": len(os.listdir("/proc/self/fd")),
            "shared memory": Path("/proc/self/maps").read_text().count("/dev/shm/"),
        }

    def update(version: int) -> None:
        engine.load_weights(policy.named_weights(), version)
        engine.generate(prompts[:2], replace(SAMPLING, max_tokens=4), SEEDS[:2])

    for version in range(20):
        update(version)
    before = held()
    for version in range(200):
        update(version)
    after = held()
    grown = {what: (before[what], after[what]) for what in after if after[what] > 1.02 * before[what]}
    assert not grown


@pytest.mark.parametrize(
    "lora, options",
    [
        ("merged", {}),
        ("adapters", {}),
        ("adapters", {"use_rslora": True, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 3}}),
        ("merged", {"use_dora": True, "modules_to_save": ["merger"]}),
        ("merged", {"target_modules": ["patch_embed.proj", "qkv", "q_proj"]}),
        ("merged", {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}),
    ],
    ids=str,
)
def test_adapters_reach_the_engine(
    policy_folder: Path, prompts: list[PromptInputs], lora: str, options: dict[str, Any]
):
    targets = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False}
    policy = QwenVLPolicy(policy_folder, lora=targets | options).eval()
    engine = build(policy, lora=lora)
    assert largest_difference(policy, engine.generate(prompts, SAMPLING, SEEDS), SAMPLING) < CLOSE
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    perturb(policy, trained.__contains__)
    engine.load_weights(policy.named_weights(), 1)
    groups = engine.generate(prompts, SAMPLING, SEEDS)
    assert largest_difference(policy, groups, SAMPLING) < CLOSE
    assert {c.weights_version for group in groups for c in group.completions} == {1}
    engine.close()


def test_adapters_that_vllm_does_not_load_are_refused(policy_folder: Path):
    policy = QwenVLPolicy(policy_folder, lora={"target_modules": ["q_proj"], "use_dora": True})
    with pytest.raises(ConfigError, match=r"with DoRA; set rollout\.lora=merged"):
        build(policy, lora="adapters")
