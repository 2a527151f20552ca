"""Options of Lightning and vLLM that a run can't keep: each is refused before any work, with what to set in its place.

What is not in these tables reaches the library and is in force. The modules here optimise by hand, hand out questions
themselves, and keep checkpoints of their own, which is why much of ``Trainer`` would be read by nobody.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from ktr.config.even_shares import num_devices
from ktr.errors import ConfigError

# Key of trainer: the values that are kept, why no other is, and what to do.
TRAINER: Mapping[str, tuple[tuple[Any, ...], str, str]] = {
    "precision": (
        (None, 32, "32", "32-true", "bf16", "bf16-mixed"),
        "fp16 would need its loss scaled, and *-true would convert the policy and its batches",
        "choose bf16-mixed (master weights in fp32), or 32-true with model.dtype=bfloat16 to keep weights in bf16",
    ),
    "accumulate_grad_batches": (
        (1,),
        "a loss is divided by the counts of its own batch, whose gradients are summed already",
        "raise data.questions_per_step; scorer.max_tokens_per_pass bounds the memory that a step takes",
    ),
    "gradient_clip_val": ((None,), "gradients are clipped by the step itself", "set optimizer.max_grad_norm"),
    "gradient_clip_algorithm": ((None,), "gradients are clipped by their norm", "set optimizer.max_grad_norm"),
    "fast_dev_run": (
        (False, 0),
        "it leaves out logs and checkpoints, and the run would still count as finished",
        "set trainer.max_steps=2 and the number of questions of data.train and data.validation",
    ),
    "overfit_batches": (
        (0, 0.0),
        "questions have an order of their own",
        "lower the number of questions of data.train",
    ),
    "limit_train_batches": ((None, 1.0), "the place in the data goes on over it", "set trainer.max_steps"),
    "limit_test_batches": ((None, 1.0), "there is no test loop", "leave it out; python -m ktr.evaluate tests a policy"),
    "limit_predict_batches": ((None, 1.0), "there is no prediction loop", "leave it out"),
    "num_sanity_val_steps": (
        (0,),
        "held-out accuracy is measured before the first update anyway",
        "leave it at 0",
    ),
    "enable_checkpointing": (
        (False,),
        "Lightning's checkpoint would hold no weights",
        "leave it false and set callbacks.model_checkpoint.every_n_steps",
    ),
    "max_time": (
        (None,),
        "a run that it ends would count as finished",
        "set trainer.max_steps, or end the run by SIGTERM and start it again to go on",
    ),
    "min_steps": ((None,), "nothing ends a run early", "set trainer.max_steps"),
    "min_epochs": ((None,), "nothing ends a run early", "set trainer.max_epochs"),
    "reload_dataloaders_every_n_epochs": ((0,), "the data stay the same and know their place", "leave it at 0"),
    "use_distributed_sampler": ((False,), "each rank takes its share of the questions itself", "leave it false"),
    "sync_batchnorm": ((False,), "no model here has a batch norm", "leave it false"),
    "barebones": ((False,), "it leaves out what a run writes down", "set callbacks=none"),
    "model_registry": ((None,), "the policy is a folder of the run", "leave it out"),
    "logger": ((), "loggers are a group of their own", "choose logger=wandb or logger=tensorboard"),
    "callbacks": ((), "callbacks are a group of their own", "add +callbacks.<name>={_target_: …}"),
}
ALONE = (
    "auto",
    "single_device",
)  # names of strategies that share nothing; of the others, ReplicatedStrategy and ShardedStrategy do it as they must
POSITIVE = {  # 0 would leave a run without them
    "limit_val_batches": "data.validation", "log_every_n_steps": "logger", "val_check_interval": "validation",
}  # fmt: skip

# Numbers that leave nothing to do, or that no generator takes: the least and the most of each.
BOUNDS: Mapping[str, tuple[int, int | None]] = {
    "seed": (0, 2**32 - 1), "data.seed": (0, None), "data.questions_per_step": (1, None),
    "data.validation_batch_size": (1, None), "scorer.chunk_size": (1, None), "algorithm.updates_per_rollout": (1, None),
    "validation.num_items": (1, None), "probe.num_questions": (1, None), "probe.num_completions": (1, None),
    "probe.num_shuffles": (1, None), "num_questions": (1, None), "num_groups": (1, None),
}  # fmt: skip

SPREADS = ".ShardedStrategy"  # the strategy whose ranks hold a part of the policy each

# What of vLLM decides only where and how fast it computes; anything else may change what is sampled, its log-probs, or
# what a push of weights reaches.
PASSED_ON = frozenset({
    "tensor_parallel_size", "distributed_executor_backend", "disable_custom_all_reduce", "distributed_timeout_seconds",
    "mm_encoder_tp_mode", "mm_encoder_attn_backend", "attention_backend", "attention_config", "disable_cascade_attn",
    "block_size", "num_gpu_blocks_override", "watermark", "compilation_config", "cudagraph_capture_sizes",
    "max_cudagraph_capture_size", "optimization_level", "enable_flashinfer_autotune", "numa_bind", "numa_bind_nodes",
    "numa_bind_cpus", "disable_log_stats", "profiler_config",
})  # fmt: skip
INSTEAD = {
    "model": "model.path", "tokenizer": "model.path", "hf_config_path": "model.path", "dtype": "model.dtype",
    "api_key": "rollout.api_key_env, the name of a variable", "hf_token": "the variable HF_TOKEN",
    "host": "rollout.host", "port": "rollout.addresses, for a server that is started elsewhere",
    "max_model_len": "rollout.max_model_len", "max_num_seqs": "rollout.max_num_seqs", "seed": "seed",
    "max_num_batched_tokens": "rollout.max_num_batched_tokens", "enforce_eager": "rollout.enforce_eager",
    "gpu_memory_utilization": "rollout.gpu_memory_utilization", "enable_sleep_mode": "rollout.sleep",
    "kv_cache_memory_bytes": "rollout.kv_cache_gib on a CPU, rollout.gpu_memory_utilization on a GPU",
    "enable_lora": "rollout.lora=adapters", "max_lora_rank": "rollout.lora=adapters",
    "max_loras": "rollout.lora=adapters", "data_parallel_size": "rollout.num_servers",
    "mm_processor_kwargs": "video.max_pixels and video.num_frames", "media_io_kwargs": "video.num_frames",
    "override_generation_config": "sampling.*", "device_ids": "rollout.devices",
}  # fmt: skip


def check_options(config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a resolved config has an option that nothing would honour, or lacks what is measured.

    And where a number is out of its ``BOUNDS``, or a folder has no name.
    """
    for key, (least, most) in BOUNDS.items():
        value = reduce(lambda node, part: node.get(part) if isinstance(node, Mapping) else None, key.split("."), config)
        if isinstance(value, int) and not least <= value <= (value if most is None else most):
            raise ConfigError(f"{key}={value}: give {least} or more{'' if most is None else f', up to {most}'}")
    for name, folder in config.get("paths", {}).items():
        if folder == "":  # what is below it would be below /
            raise ConfigError(f"paths.{name} is empty: give a folder, or unset KTR_{name.upper()}")
        if name == "runs" and str(folder).startswith("~"):  # which Hydra, as it makes a run's folder, takes for a name
            raise ConfigError(f"paths.runs={folder}: give the folder in full, as the shell does with $HOME")
    if isinstance(trainer := config.get("trainer"), Mapping):
        _check_trainer(trainer)
    if isinstance(rollout := config.get("rollout"), Mapping):
        _check_extra(rollout)
        _check_pushes(config.get("trainer"), rollout)
    if "answers" in config:  # held-out answers are judged by these two, whatever else is paid
        for name in ("accuracy", "format"):
            if "rewards" in config["reward"] and not config["reward"]["rewards"].get(name):
                raise ConfigError(
                    f"reward.rewards.{name} is off, and held-out answers are measured by it; keep it, with "
                    f"reward.weights.{name}=0 if it is not to be paid"
                )


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    for key, (kept, reason, remedy) in TRAINER.items():
        if key in trainer and not any(_same(trainer[key], other) for other in kept):
            raise ConfigError(f"trainer.{key}={trainer[key]}: {reason}; {remedy}")
    for key, without in POSITIVE.items():
        if trainer.get(key) == 0:
            raise ConfigError(f"trainer.{key}=0: a run needs its {without}; give 1 at least")
    strategy = trainer.get("strategy", "auto")
    if isinstance(strategy, str) and strategy not in ALONE:
        raise ConfigError(
            f"trainer.strategy={strategy}: it reduces or shards in each backward pass, of which ranks run different "
            "numbers; choose trainer=ddp, or trainer=gpu or fsdp2 on GPUs, with trainer.devices=<number>"
        )
    several = [
        f"trainer.{key}={trainer[key]}" for key in ("devices", "num_nodes") if (num_devices(trainer.get(key)) or 1) > 1
    ]
    if several and isinstance(strategy, str):
        raise ConfigError(
            f"{' '.join(several)}: trainer.strategy={strategy} sums no gradients over ranks; choose trainer=ddp, or "
            f"trainer=gpu on GPUs, with {' '.join(several)}"
        )


def _check_extra(rollout: Mapping[str, Any]) -> None:
    extra = rollout.get("extra") or {}
    for name in extra:
        if (plain := name.replace("-", "_")) in INSTEAD:
            raise ConfigError(f"rollout.extra.{name}: ktr sets it itself; set {INSTEAD[plain]}")
        if plain not in PASSED_ON:
            raise ConfigError(
                f"rollout.extra.{name}: it may change what is sampled, its log-probs or what a weight push reaches; "
                f"leave it out: vLLM is passed {', '.join(sorted(PASSED_ON))}"
            )
    if extra and rollout.get("addresses"):
        raise ConfigError("rollout.extra: it reaches no server of rollout.addresses; give it to those where they start")
    if extra.get("tensor_parallel_size", 1) != 1 and rollout["_target_"].endswith("VLLMColocateEngine"):
        raise ConfigError(
            "rollout.extra.tensor_parallel_size: one engine a rank has one GPU; choose rollout=vllm_server"
        )


def _check_pushes(trainer: Any, rollout: Mapping[str, Any]) -> None:
    """A policy that is spread over ranks is gathered by all of them, and pushed as it is merged."""
    strategy = trainer.get("strategy") if isinstance(trainer, Mapping) else None
    if not isinstance(strategy, Mapping) or not str(strategy.get("_target_")).endswith(SPREADS):
        return
    if rollout["_target_"].endswith("VLLMServerEngine"):
        raise ConfigError(
            "rollout=vllm_server: each server is pushed to on its own, also when it starts again, and weights that are "
            "spread over ranks are gathered on all at once; choose rollout=vllm_colocate, or trainer=gpu"
        )
    if rollout.get("lora") == "adapters":
        raise ConfigError(
            "rollout.lora=adapters: adapters that are spread over ranks are not written apart; choose "
            "rollout.lora=merged, or trainer=gpu"
        )


def _same(value: Any, other: Any) -> bool:
    return value == other and type(value) is type(other)  # 1 is one batch, 1.0 all of them
