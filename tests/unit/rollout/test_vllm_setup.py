"""What a vLLM is started with, and what is refused before it is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ktr.errors import ConfigError
from ktr.policy.families import load_policy
from ktr.rollout.vllm.setup import engine_arguments
from tests.tiny_families import save_family

ROOM: dict[str, Any] = {
    "max_model_len": 256,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 256,
    "gpu_memory_utilization": 0.3,
    "kv_cache_gib": 0.25,
    "enforce_eager": True,
    "weight_transfer": "ktr_host",
    "extra": {},
}


@pytest.mark.parametrize(
    ("family", "on_gpu", "said"),
    [
        ("qwen3_vl", False, None),
        ("qwen3_vl_moe", True, None),
        ("qwen3_vl_moe", False, r"adapters: .*rollout\.lora=merged$"),
    ],
)
def test_adapters_beside_experts_are_for_gpus(
    family: str, on_gpu: bool, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    policy = load_policy(save_family(family, tmp_path), lora={"r": 4, "target_modules": ["q_proj"]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    assert "enable_lora" not in engine_arguments(policy, lora_rank=0, **ROOM)
    if said is None:
        assert engine_arguments(policy, lora_rank=4, **ROOM)["enable_lora"]
        return
    with pytest.raises(ConfigError, match=said):
        engine_arguments(policy, lora_rank=4, **ROOM)
