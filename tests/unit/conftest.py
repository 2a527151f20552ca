"""A random tiny policy, loaded once for all unit tests; a test that changes weights loads its own."""

from pathlib import Path

import pytest

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from tests.tiny_policy import save_random_policy


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def policy(policy_folder: Path) -> QwenVLPolicy:
    return QwenVLPolicy(policy_folder).eval()
