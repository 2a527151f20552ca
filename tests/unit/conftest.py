"""A random tiny policy, loaded once for all unit tests; a test that changes weights loads its own."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_policy import save_random_policy

    return save_random_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def policy(policy_folder: Path) -> "QwenVLPolicy":
    from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy

    return QwenVLPolicy(policy_folder).eval()
