"""Real vLLM: a policy whose weights a test may change, and the trainer's log-probs to compare an engine's with."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import Factual
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
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


def largest_difference(policy: QwenVLPolicy, groups: Sequence[RolloutGroup], sampling: SamplingParams) -> float:
    return max(
        float((trainer_logps(policy, group, sampling) - group.engine_logps_GT)[group.completion_mask_GT].abs().max())
        for group in groups
    )


@torch.no_grad()
def trainer_logps(
    policy: QwenVLPolicy, group: RolloutGroup, sampling: SamplingParams | None = None
) -> Float[Tensor, "G T"]:
    """What the trainer scores the engine's tokens with, at the temperature at which they were sampled."""
    scorer = GroupScorer(temperature=(sampling.temperature if sampling else 1.0) or 1.0)
    features = policy.encode_video([group.prompt])
    return scorer.score_pass(policy, [group], features, views=[Factual()], seeds=[0], entropy=False)[0].logps_GT
