"""vLLM on GPUs: an engine that sleeps beside the trainer, and a server that is sent weights over NCCL."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from ktr.attribution.views import Factual
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.scoring.scorer import GroupScorer
from ktr.types import PromptInputs, RolloutGroup
from tests.tiny_policy import random_prompt

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
SAMPLING = SamplingParams(num_completions=8, max_tokens=24)
ROOM: dict[str, Any] = {"max_model_len": 128, "max_num_seqs": 64, "enforce_eager": True, "gpu_memory_utilization": 0.2}


@pytest.fixture
def policy(policy_folder: Path) -> QwenVLPolicy:
    return QwenVLPolicy(policy_folder, dtype="bfloat16").eval().to("cuda")


@pytest.fixture
def prompts(policy: QwenVLPolicy) -> list[PromptInputs]:
    return [random_prompt(policy, index) for index in range(4)]


def difference(policy: QwenVLPolicy, groups: Sequence[RolloutGroup]) -> float:
    """Mean |trainer − engine| of a token's log-prob."""
    with torch.no_grad():
        features = policy.encode_video([group.prompt for group in groups])
    scores = GroupScorer().score(policy, groups, features, Factual(), [0] * len(groups))
    apart = [
        (score.logps_GT.cpu() - group.engine_logps_GT)[group.completion_mask_GT].abs()
        for score, group in zip(scores, groups, strict=True)
    ]
    return float(torch.cat(apart).mean())


def assert_a_push_arrives(policy: QwenVLPolicy, generate: Callable[[], list[RolloutGroup]], push: Any) -> None:
    """The engine has the policy's weights, lags behind when they change, and has them again behind a push."""
    fresh = difference(policy, generate())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * parameter.std(correction=0) * torch.randn_like(parameter))
    stale = difference(policy, generate())
    push(policy.named_weights(), 3)
    groups = generate()
    assert max(fresh, difference(policy, groups)) < 0.2 * stale
    assert {completion.weights_version for group in groups for completion in group.completions} == {3}


def test_a_colocated_engine_sleeps_and_wakes(policy: QwenVLPolicy, prompts: list[PromptInputs]):
    from ktr.rollout.vllm.colocate import VLLMColocateEngine

    engine = VLLMColocateEngine(policy, sleep=True, **ROOM)
    assert_a_push_arrives(policy, lambda: engine.generate(prompts, SAMPLING, range(4)), engine.load_weights)
    torch.cuda.empty_cache()
    asleep = torch.cuda.mem_get_info()[0]
    engine._engine.wake_up()
    assert torch.cuda.mem_get_info()[0] < asleep  # it had given memory back
    engine._engine.sleep(level=1)
    engine.close()


@pytest.fixture
def server(policy: QwenVLPolicy, tmp_path: Path) -> Iterator[Any]:
    from ktr.rollout.vllm.server import VLLMServerEngine

    if torch.cuda.device_count() < 2:
        pytest.skip("NCCL wants a second GPU for the server")
    engine = VLLMServerEngine(policy, log_dir=tmp_path, devices=["1"], **ROOM)
    yield engine
    engine.close()


def test_a_server_is_sent_weights_over_nccl(policy: QwenVLPolicy, prompts: list[PromptInputs], server: Any):
    assert_a_push_arrives(policy, lambda: server.generate(prompts, SAMPLING, range(4)), server.load_weights)
