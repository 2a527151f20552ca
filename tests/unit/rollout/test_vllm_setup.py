"""What a vLLM is started with, and what is refused before it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ktr.errors import ConfigError
from ktr.policy.families import load_policy
from ktr.rollout.vllm.server import VLLMServerEngine
from ktr.rollout.vllm.setup import devices_from, engine_arguments, serve_flags
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


@pytest.mark.parametrize("engine", ["server.VLLMServerEngine", "colocate.VLLMColocateEngine"])
def test_what_a_config_passes_on_arrives_in_vllms_own_form(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in ("server", "colocate"):
        monkeypatch.setattr(f"ktr.rollout.vllm.{module}.require_vllm", lambda: None)
    extra = {"compilation_config": {"level": 0, "ops": ["none"]}, "cudagraph_capture_sizes": [1, 2], "block_size": None}
    given = {name.replace("_", "-") if name == "block_size" else name: value for name, value in extra.items()}
    config = OmegaConf.create({"_target_": f"ktr.rollout.vllm.{engine}", "max_model_len": 8, "extra": given})
    where = {"log_dir": tmp_path, "devices": ["7"]} if engine.startswith("server") else {}
    arguments = instantiate(config, policy=load_policy(save_family("qwen2_5_vl", tmp_path)), **where)._arguments
    assert {name: arguments[name] for name in extra} == extra
    assert {type(arguments["compilation_config"]), type(arguments["compilation_config"]["ops"])} == {dict, list}
    flags = serve_flags({name: arguments[name] for name in extra})
    assert flags == [
        *("--compilation-config", '{"level": 0, "ops": ["none"]}'), *("--cudagraph-capture-sizes", "1", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ("http://127.0.0.1:8000", r"give a list, as in \[http://127\.0\.0\.1:8000\]"),
        (["http://127.0.0.1:8000/v1"], "is not of the form http://host:port"),  # as OpenAI's clients are given it
        (["http://127.0.0.1:8000", "http://127.0.0.1:8000"], "stands there twice"),
    ],
)
def test_an_address_at_which_no_server_would_answer_is_refused(
    addresses: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ktr.rollout.vllm.server.require_vllm", lambda: None)
    policy = load_policy(save_family("qwen2_5_vl", tmp_path))
    with pytest.raises(ConfigError, match=said):
        VLLMServerEngine(policy, 8, tmp_path, addresses=addresses)
    VLLMServerEngine(policy, 8, tmp_path, addresses=["http://127.0.0.1:8000/"])


def test_servers_beside_a_trainer_on_gpus_need_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ktr.rollout.vllm.server.require_vllm", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    policy = load_policy(save_family("qwen2_5_vl", tmp_path))
    with pytest.raises(ConfigError, match=r"name the GPU of each server, .*With one GPU choose rollout=vllm_colocate"):
        VLLMServerEngine(policy, 8, tmp_path)
    VLLMServerEngine(policy, 8, tmp_path, devices=["7"])


@pytest.mark.parametrize(
    ("own", "asked"), [("cpu", {}), ("cuda:0", {}), ("cuda:2", {"device_ids": [2, 3, 0, 1]})], ids=str
)
def test_an_engine_is_on_the_trainers_own_gpu(own: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert devices_from(torch.device(own)) == asked
