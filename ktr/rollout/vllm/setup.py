"""What every vLLM engine of ktr is started with. Imports no vLLM: an engine may run in another process.

The values are vLLM's own names (``EngineArgs`` in this process, ``vllm serve --flags`` in others), so that its
documentation applies. ``extra`` in an engine's config adds to them or overrides them.
"""

import importlib.util
import json
import logging
import os
from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import OmegaConf

from ktr.errors import ConfigError, MissingExtra
from ktr.policy.family import Policy

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM reserves room


# One process for scheduler and model. On CPUs vLLM takes "uni" for "mp", to pin threads to cores, which we leave alone.
_EXECUTOR = "uni" if torch.cuda.is_available() else "vllm.v1.executor.uniproc_executor.UniProcExecutor"


def require_vllm() -> None:
    """Raises ``MissingExtra``, in one line, where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        hint = "" if torch.cuda.is_available() else " (without a GPU: the CPU build, `make setup-vllm`)"
        raise MissingExtra("vllm", "vllm", hint)


def engine_arguments(
    policy: Policy,
    max_model_len: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    gpu_memory_utilization: float,
    kv_cache_gib: float,
    enforce_eager: bool,
    weight_transfer: str,
    lora_rank: int,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """vLLM's ``EngineArgs`` for the policy. Weights are not read from disk: they come from the trainer, by a push.

    On a CPU ``kv_cache_gib`` is all that is reserved for keys and values. ``lora_rank`` > 0 lets adapters of up to that
    rank be loaded beside the base weights.
    """
    arguments: dict[str, Any] = {
        "model": str(policy.path),
        "dtype": str(policy.dtype).removeprefix("torch."),
        "load_format": "dummy",
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        # A prompt is never cut over two batches: a seeded request of vLLM's CPU build cannot be (nor need it be).
        "max_num_batched_tokens": max(max_num_batched_tokens, max_model_len),
        "enable_chunked_prefill": False,
        "enable_prefix_caching": True,  # the G completions of a question share its prefill
        "gpu_memory_utilization": gpu_memory_utilization,
        "enforce_eager": enforce_eager,
        "seed": 0,
        "logprobs_mode": "processed_logprobs",  # of the tempered distribution without the banned ids
        "generation_config": "vllm",  # sampling is the config's, not what a generation_config.json suggests
        "limit_mm_per_prompt": {"video": 1, "image": 1},
        "mm_processor_cache_gb": 0,  # the trainer's pixels are sent as they are
        "mm_device_do_normalize": False,  # they are normalised already
        "skip_mm_profiling": True,
        "distributed_executor_backend": _EXECUTOR,  # a model on several GPUs: extra.distributed_executor_backend=mp
        "weight_transfer_config": {"backend": weight_transfer},
        "worker_extension_cls": "ktr.rollout.vllm.worker.WorkerExtension",
        "disable_log_stats": True,
    }
    if not torch.cuda.is_available():
        arguments["kv_cache_memory_bytes"] = int(kv_cache_gib * 2**30)
        arguments["block_size"] = 32  # only whole blocks are shared; vLLM's 128 on CPUs would be all of a short prompt
    if lora_rank > 0:
        if (what := policy.only_merged) is not None:
            raise ConfigError(f"rollout.lora=adapters: vLLM doesn't load adapters with {what}; set rollout.lora=merged")
        if policy.has_experts and not torch.cuda.is_available():  # its kernel for them is Triton's, and fails mid-batch
            raise ConfigError(
                "rollout.lora=adapters: without a GPU vLLM runs no mixture of experts beside adapters; set "
                "rollout.lora=merged"
            )
        rank = next((rank for rank in _LORA_RANKS if rank >= lora_rank), lora_rank)
        # Without the last of these vLLM leaves adapters of the vision tower out, and says so in its log only.
        arguments |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1, "enable_tower_connector_lora": True}
    # A config's own mappings and lists are none to vLLM, and it may name them as flags are named.
    plain = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(dict(extra))))
    return arguments | {name.replace("-", "_"): value for name, value in plain.items()}


def devices_from(own: torch.device) -> dict[str, Any]:
    """vLLM's argument for an engine on the trainer's own GPU: that first, then those that a model on several takes."""
    if not own.index:  # the first, which is vLLM's own choice, or none
        return {}
    count = torch.cuda.device_count()
    return {"device_ids": [(own.index + i) % count for i in range(count)]}


def quiet_vllm() -> None:
    """Keep what vLLM says at each import and start off the console; VLLM_LOGGING_LEVEL brings it back."""
    logging.getLogger("vllm").setLevel(os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"))


def engine_environment() -> dict[str, str]:
    """Environment variables of a process in which vLLM runs."""
    return {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the trainer keeps its own threads
        # Of vLLM's two runners a GPU gets the other, whose sampler gives no log-probs from before top-p.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
    }


def serve_flags(arguments: Mapping[str, Any]) -> list[str]:
    """The same arguments as flags of ``vllm serve``; the model is its positional one and is left out.

    So is None, for which no flag has a word: it is the default of what may be None.
    """
    flags: list[str] = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if name == "model" or value is None:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):  # each an argument of its own
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return flags
