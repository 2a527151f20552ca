"""A rollout and its scores on a GPU agree with each other, as they do on a CPU."""

from pathlib import Path

import pytest
import torch

from ktr.attribution.views import Factual
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.scorer import GroupScorer
from tests.tiny_policy import random_prompt, save_random_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> QwenVLPolicy:
    folder: Path = save_random_policy(tmp_path_factory.mktemp("policy"))
    return QwenVLPolicy(folder).eval().to("cuda")


def test_engine_and_scorer_agree(policy: QwenVLPolicy):
    prompts = [random_prompt(policy, i) for i in range(4)]
    groups = TransformersEngine(policy).generate(prompts, SamplingParams(4, 24), seeds=range(4))
    with torch.no_grad():
        features = policy.encode_video(prompts)
    for group, score in zip(groups, GroupScorer().score(policy, groups, features, Factual(), [0] * 4), strict=True):
        torch.testing.assert_close(score.logps_GT.cpu(), group.engine_logps_GT, atol=1e-3, rtol=0)
