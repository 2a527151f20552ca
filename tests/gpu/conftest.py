"""Tests of a GPU. ``KTR_GPU_TESTS_ON=cpu`` runs on a CPU what of them it can, to see that they are right."""

import os
from pathlib import Path

import pytest
import torch

from tests.tiny_policy import save_random_policy


@pytest.fixture(scope="session")
def device() -> torch.device:
    name = os.environ.get("KTR_GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device(name)


@pytest.fixture(scope="session")
def policy_folder(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_policy(tmp_path_factory.mktemp("policy"))
