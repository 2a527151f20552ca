"""A rollout and its scores agree with each other, and an update in packed rows with one in full rows."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu.sizes import tiny
from benchmarks.gpu.update import ALGORITHMS
from ktr.attribution.views import Factual
from ktr.policy.folder_model import Dtype
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.scorer import GroupScorer
from tests.both_ways import TOLERANCES, assert_one_loss_and_one_gradient
from tests.tiny_policy import random_prompt


def test_engine_and_scorer_agree(policy_folder: Path, device: torch.device):
    policy = QwenVLPolicy(policy_folder).eval().to(device)
    prompts = [random_prompt(policy, i) for i in range(4)]
    groups = TransformersEngine(policy).generate(prompts, SamplingParams(4, 24), seeds=range(4))
    with torch.no_grad():
        features = policy.encode_video(prompts)
    for group, score in zip(groups, GroupScorer().score(policy, groups, features, Factual(), [0] * 4), strict=True):
        torch.testing.assert_close(score.logps_GT.cpu(), group.engine_logps_GT, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("model", tiny().models)
def test_packed_rows_learn_what_full_rows_do(
    model: str, algorithm: str, dtype: Dtype, tmp_path: Path, device: torch.device
):
    if dtype == "bfloat16" and algorithm == "video_ktr":
        pytest.skip("which tokens are chosen is a matter of the last bit in bf16")
    assert_one_loss_and_one_gradient(model, algorithm, tmp_path, device, dtype)
