"""Attention that can be watched: torch's causal bias cannot be made while a dispatch mode looks on."""

import pytest
import torch

import ktr.policy.prefix_attention


@pytest.fixture
def mask_for_a_causal_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attention, with a mask in place of the bias, which the CPU makes of it anyhow."""
    monkeypatch.setattr(
        ktr.policy.prefix_attention,
        "causal_lower_right",
        lambda rows, keys: torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows),
    )
