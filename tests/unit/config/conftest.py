"""A shrunken model of the real classes and a few rows in the real format: what stands in for weights and data."""

from functools import cache
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-VL folder with random weights, under a million of them."""
    from ktr.shapes.tiny_model import save_untrained

    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_untrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.json in the Video-R1 format and its videos."""
    from ktr.shapes.dataset_folder import write_dataset
    from ktr.shapes.example import Mixture
    from ktr.shapes.world import WorldSettings

    return write_dataset("config", 4, 0, tmp_path_factory.mktemp("data"), WorldSettings(), Mixture())


@pytest.fixture
def mine_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a package called mine is known from an earlier test; of all others, what was parsed is kept."""
    from ktr.config import keys, signatures

    def unless_mine(known):
        return cache(lambda name: (known.__wrapped__ if name.partition(".")[0] == "mine" else known)(name))

    monkeypatch.setattr(signatures, "_module", unless_mine(signatures._module))
    monkeypatch.setattr(keys, "signature_of", unless_mine(signatures.signature_of))
