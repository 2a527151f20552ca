"""A policy's own weights in parts; tests/runs writes and reads those of two ranks."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.policy.shards import SHARDS
from tests.tiny_policy import fresh_policy


def test_a_policy_takes_over_what_lies_in_parts(policy_folder: Path, tmp_path: Path):
    trained = fresh_policy(policy_folder)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    (tmp_path / SHARDS).mkdir()
    save_file(
        {name: weight.clone() for name, weight in trained.weights_in_parts().items()},
        tmp_path / SHARDS / "1.safetensors",
    )
    again = QwenVLPolicy(policy_folder)
    again.load_trained(tmp_path)
    pairs = zip(trained.named_weights(), again.named_weights(), strict=True)
    assert all(torch.equal(x, y) for (_, x), (_, y) in pairs)
