"""A question has the same tokens in the trainer and each engine, whatever layout the folder's processor files have."""

from pathlib import Path
from typing import Any

import pytest

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.rollout.vllm.colocate import VLLMColocateEngine
from ktr.rollout.vllm.server import VLLMServerEngine
from tests.processor_folders import LAYOUTS, encoder, folder_with, question
from tests.vllm.conftest import largest_difference

SAMPLING = SamplingParams(num_completions=2, max_tokens=6, temperature=1.0)
ROOM: dict[str, Any] = {"max_model_len": 1000, "max_num_seqs": 4, "kv_cache_gib": 0.25, "enforce_eager": True}


def engines(policy: QwenVLPolicy, log_dir: Path) -> list[RolloutEngine]:
    return [
        TransformersEngine(policy),
        VLLMColocateEngine(policy, **ROOM),
        VLLMServerEngine(policy, log_dir=log_dir, **ROOM),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_a_question_the_same_tokens_in_every_engine(layout: str, tmp_path: Path):
    policy = QwenVLPolicy(folder_with(LAYOUTS[layout], tmp_path / "model")).eval()
    ask = encoder(policy.path, 720, 1280)
    prompts = [ask.encode(question("video")), ask.encode(question("image"))]
    assert [prompt.media[0].grid_thw for prompt in prompts] == [(8, 16, 30), (1, 16, 30)]
    for engine in engines(policy, tmp_path):
        # vLLM's placeholders and positions are checked against the prompt's before anything is generated.
        groups = engine.generate(prompts, SAMPLING, seeds=[0, 1])
        assert largest_difference(policy, groups, SAMPLING) < 1e-4
        engine.close()
