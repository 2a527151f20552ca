"""An option that nothing would honour is refused before any work; any other passes."""

from typing import Any

import pytest

from ktr.config.composing import compose
from ktr.config.refused import BOUNDS, INSTEAD, PASSED_ON, TRAINER, check_options
from ktr.errors import ConfigError

OTHER: dict[str, list[Any]] = {  # of each key of the table, values that are not kept
    "precision": ["16-mixed", "bf16-true", "64-true", "16", 16],
    "accumulate_grad_batches": [2],
    "gradient_clip_val": [1.0],
    "gradient_clip_algorithm": ["value"],
    "fast_dev_run": [True, 2],
    "overfit_batches": [1, 0.1],
    "limit_train_batches": [1, 0.5],
    "limit_test_batches": [1],
    "limit_predict_batches": [1],
    "num_sanity_val_steps": [2, -1],
    "enable_checkpointing": [True],
    "max_time": ["00:00:10:00"],
    "min_steps": [3],
    "min_epochs": [1],
    "reload_dataloaders_every_n_epochs": [1],
    "use_distributed_sampler": [True],
    "sync_batchnorm": [True],
    "barebones": [True],
    "model_registry": ["mine"],
    "logger": [False],
    "callbacks": [[]],
}
SUMS = {"strategy": {"_target_": "ktr.training.replicated_strategy.ReplicatedStrategy"}}
SERVER, COLOCATE = "ktr.rollout.vllm.server.VLLMServerEngine", "ktr.rollout.vllm.colocate.VLLMColocateEngine"
UNVOUCHED = ["quantization", "speculative_config", "kv_cache_dtype", "logits_processors", "limit_mm_per_prompt"]
UNVOUCHED += ["enable_prefix_caching", "enable_chunked_prefill", "load_format", "logprobs_mode", "generation_config"]
UNVOUCHED += ["weight_transfer_config", "worker_extension_cls", "hf_overrides", "video_pruning_rate", "anything_else"]


def check_trainer(**trainer: Any) -> None:
    check_options({"trainer": trainer})


def check_extra(name: str, value: Any = 1, target: str = SERVER, addresses: tuple[str, ...] = ()) -> None:
    check_options({"rollout": {"_target_": target, "addresses": addresses, "extra": {name: value}}})


def test_a_command_line_is_checked_for_them():
    with pytest.raises(ConfigError, match=r"trainer.accumulate_grad_batches=2: .* raise data.questions_per_step"):
        compose("train", ["+trainer.accumulate_grad_batches=2"])
    with pytest.raises(ConfigError, match=r"rollout.extra.dtype: ktr sets it itself; set model.dtype"):
        compose("evaluate", ["rollout=vllm_server", "rollout.extra={dtype: half}"])
    with pytest.raises(ConfigError, match=r"trainer.devices=3: .* choose trainer=ddp"):
        compose("train", ["trainer.devices=3"])


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OTHER.items() for value in values])
def test_an_option_of_the_trainer_that_is_not_honoured_is_refused_with_its_remedy(key: str, value: Any):
    _, reason, remedy = TRAINER[key]
    with pytest.raises(ConfigError) as raised:
        check_trainer(**{key: value})
    assert str(raised.value) == f"trainer.{key}={value}: {reason}; {remedy}"


def test_the_table_is_tested_whole():
    assert OTHER.keys() == TRAINER.keys()


@pytest.mark.parametrize(("key", "kept"), [(key, value) for key, (kept, *_) in TRAINER.items() for value in kept])
def test_a_value_that_is_kept_passes(key: str, kept: Any):
    check_trainer(**{key: kept})


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn", "ddp_notebook", "fsdp", "deepspeed_stage_3"])
def test_a_strategy_that_reduces_in_each_backward_pass_is_refused(strategy: str):
    with pytest.raises(ConfigError, match=f"trainer.strategy={strategy}: .* choose trainer=ddp"):
        check_trainer(strategy=strategy)


@pytest.mark.parametrize("several", [{"devices": 3}, {"devices": "0,1"}, {"devices": [0, 1]}, {"num_nodes": 2}])
def test_several_ranks_need_the_strategy_that_sums_their_gradients(several: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"sums no gradients over ranks; choose trainer=ddp"):
        check_trainer(**several)
    check_trainer(**several, **SUMS)


@pytest.mark.parametrize("devices", [1, "1", "auto", [0], -1])
def test_one_device_and_what_the_machine_decides_pass(devices: Any):
    check_trainer(devices=devices)


@pytest.mark.parametrize("key", ["limit_val_batches", "log_every_n_steps", "val_check_interval"])
def test_a_run_without_validation_or_rows_is_refused(key: str):
    with pytest.raises(ConfigError, match=f"trainer.{key}=0: .*give 1 at least"):
        check_trainer(**{key: 0})


@pytest.mark.parametrize("name", [*INSTEAD, "max-model-len"])
def test_an_argument_of_vllm_that_has_a_key_is_refused_with_the_key(name: str):
    with pytest.raises(ConfigError) as raised:
        check_extra(name)
    assert str(raised.value).endswith(f"; set {INSTEAD[name.replace('-', '_')]}")


@pytest.mark.parametrize("name", UNVOUCHED)
@pytest.mark.parametrize("target", [SERVER, COLOCATE])
def test_an_argument_of_vllm_that_may_change_what_is_sampled_is_refused(target: str, name: str):
    with pytest.raises(ConfigError, match=rf"rollout.extra.{name}: it may change what is sampled.*leave it out"):
        check_extra(name, target=target)


@pytest.mark.parametrize("name", sorted(PASSED_ON))
def test_an_argument_of_vllm_that_says_where_it_computes_is_passed_on(name: str):
    check_extra(name)


def test_extra_that_reaches_no_server_and_several_gpus_of_one_engine_are_refused():
    with pytest.raises(ConfigError, match=r"reaches no server of rollout.addresses"):
        check_extra("block_size", addresses=("http://127.0.0.1:1",))
    with pytest.raises(ConfigError, match=r"choose rollout=vllm_server"):
        check_extra("tensor_parallel_size", 2, target=COLOCATE)


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize("part", ["accuracy", "format"])
def test_what_held_out_answers_are_measured_by_stays(program: str, part: str):
    with pytest.raises(ConfigError, match=rf"reward\.rewards\.{part} is off, .* with reward\.weights\.{part}=0 if"):
        compose(program, [f"reward.rewards.{part}=null"])
    compose(program, [f"reward.weights.{part}=0"])
    compose("attribute", [f"reward.rewards.{part}=null"])


SPREADS = {"strategy": {"_target_": "ktr.training.sharded_strategy.ShardedStrategy"}}


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"_target_": SERVER, "lora": "merged"}, r"rollout=vllm_server: .* choose rollout=vllm_colocate"),
        ({"_target_": COLOCATE, "lora": "adapters"}, r"rollout.lora=adapters: .* choose rollout.lora=merged"),
    ],
)
def test_a_push_that_spread_weights_cannot_follow_is_refused(rollout: dict[str, Any], message: str):
    check_options({"trainer": SUMS, "rollout": rollout})
    with pytest.raises(ConfigError, match=message):
        check_options({"trainer": SPREADS, "rollout": rollout})
    check_options({"trainer": SPREADS, "rollout": {"_target_": COLOCATE, "lora": "merged"}})


def nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.mark.parametrize("key", BOUNDS)
def test_a_number_that_leaves_nothing_to_do_is_refused(key: str):
    least, most = BOUNDS[key]
    for value in (least - 1, -7, *([] if most is None else [most + 1])):
        with pytest.raises(ConfigError, match=rf"{key}={value}: give {least} or more"):
            check_options(nested(key, value))
    check_options(nested(key, least))


@pytest.mark.parametrize("program", ["train", "evaluate", "attribute", "study"])
def test_a_seed_that_no_generator_takes_is_refused_by_each_program(program: str):
    with pytest.raises(ConfigError, match="seed=-1: give 0 or more, up to 4294967295"):
        compose(program, ["seed=-1"])


@pytest.mark.parametrize("name", ["runs", "models", "data", "cache"])
def test_an_empty_folder_is_refused_for_it_would_be_the_root(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"KTR_{name.upper()}", "")
    with pytest.raises(ConfigError, match=f"paths.{name} is empty: give a folder, or unset KTR_{name.upper()}"):
        compose("train")


def test_a_home_that_hydra_would_take_for_a_name_is_refused():
    with pytest.raises(ConfigError, match="paths.runs=~/runs: give the folder in full"):
        compose("train", ["paths.runs='~/runs'"])
