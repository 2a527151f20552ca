"""Real vLLM: a policy whose weights a test may change, and the trainer's log-probs to compare an engine's with."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ktr.attribution.views import Factual
from ktr.policy.qwen_vl import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.scoring.scorer import GroupScorer
from ktr.types import RolloutGroup
from tests.tiny_policy import save_random_policy

Difference = Callable[[Sequence[RolloutGroup], SamplingParams], float]


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(policy_folder: Path) -> QwenVLPolicy:
    return QwenVLPolicy(policy_folder).eval()


@pytest.fixture(scope="module")
def difference(policy: QwenVLPolicy) -> Difference:
    """The largest |trainer − engine| of a token's log-prob."""
    return lambda groups, sampling: largest_difference(policy, groups, sampling)


@torch.no_grad()
def largest_difference(policy: QwenVLPolicy, groups: Sequence[RolloutGroup], sampling: SamplingParams) -> float:
    scorer = GroupScorer(temperature=sampling.temperature or 1.0)
    features = policy.encode_video([group.prompt for group in groups])
    views, seeds = [Factual()] * len(groups), [0] * len(groups)
    scores = scorer.score_pass(policy, groups, features, views=views, seeds=seeds, entropy=False)
    return max(
        float((score.logps_GT - group.engine_logps_GT)[group.completion_mask_GT].abs().max())
        for score, group in zip(scores, groups, strict=True)
    )
