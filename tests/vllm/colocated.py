"""A small engine in the tests' own process, and what it is asked."""

from typing import Any

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.vllm.colocate import VLLMColocateEngine
from ktr.types import PromptInputs
from tests.tiny_policy import random_prompt

SAMPLING = SamplingParams(num_completions=8, max_tokens=24)
SEEDS = [1, 2, 3, 4]


def build(policy: QwenVLPolicy, **changes: Any) -> VLLMColocateEngine:
    settings: dict[str, Any] = {"max_model_len": 128, "max_num_seqs": 64, "kv_cache_gib": 0.25}
    return VLLMColocateEngine(policy, **settings | changes)


def random_prompts(policy: QwenVLPolicy) -> list[PromptInputs]:
    """One for each seed of ``SEEDS``."""
    return [random_prompt(policy, index) for index in range(len(SEEDS))]
