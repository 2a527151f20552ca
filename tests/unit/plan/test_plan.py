"""What the plan says of a run, by law: more is more, a remedy is one, and a wrong word is told in a sentence."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.config.refused import TRAINER
from ktr.plan.__main__ import main
from ktr.plan.options import Options
from ktr.plan.plan import Plan, make_plan
from ktr.plan.text import plan_text
from tests.tiny_families import config as config_of
from tests.tiny_families import tokenizer

CLIP = "+experiment=vet_64f"
MATCHED = "optimizer._target_=ktr.training.matched_updates.MatchedAdamWCosine"
ADAPTERS = "model.lora={r: 256, target_modules: all-linear}"
TWO_NODES = ("+experiment=vet_32f", "trainer.num_nodes=2", "trainer.devices=8", "data.questions_per_step=32")


@cache
def config(*overrides: str) -> Any:
    return OmegaConf.to_container(compose("train", overrides), resolve=True)


def planned(*overrides: str, **options: Any) -> Plan:
    return make_plan(config(*overrides), Options(**options))


def seconds(plan: Plan) -> dict[str, float]:
    return {one.name: one.seconds for one in plan.passes}


def test_bytes_that_are_there_all_the_time_are_those_of_the_weights():
    plan = planned(CLIP, "model=qwen2_5_vl_7b")
    count, learned = (
        8_292_166_656,
        8_292_166_656 - sum(p.count for p in plan.parameters if "vision" in p.parts),
    )  # the tower is frozen
    resident = plan.memory.resident
    assert resident["weights"] == resident["reference"] == 4 * count
    assert (resident["gradients"], resident["optimizer states"]) == (4 * learned, 8 * learned)


def test_a_run_without_penalty_has_no_reference_and_one_without_signals_no_views():
    names = seconds(planned("+experiment=grpo_32f", "loss.beta=0"))
    assert not {name for name in names if "reference" in name or "view" in name}
    assert {"view, masked", "view, shuffled", "tower, shuffled", "reference"} <= set(seconds(planned(CLIP)))
    patches = planned(CLIP, "video.shuffle_granularity=temporal_patch")
    assert "tower, shuffled" not in seconds(patches)


def test_adapters_need_no_second_copy():
    plan = planned(CLIP, "model.lora={r: 16, target_modules: all-linear}")
    assert "reference" not in plan.memory.resident and "reference" in seconds(plan)
    assert plan.memory.resident["gradients"] < 0.02 * plan.memory.resident["weights"]


def test_a_sleeping_engine_is_not_there_during_the_update():
    awake = planned(CLIP, "rollout=vllm_colocate")
    asleep = planned(CLIP, "rollout=vllm_colocate", "rollout.sleep=true")
    assert awake.memory.peak - asleep.memory.peak == pytest.approx(0.3 * awake.card.memory_gib * 2**30)
    assert asleep.memory.phases["generation"]["vLLM"] > 0 and "vLLM" not in asleep.memory.resident
    assert awake.memory.engine_lacks > 0  # it holds the weights in fp32, as the policy does


def test_shards_divide_what_is_there_all_the_time():
    whole, spread = planned(CLIP), planned(CLIP, "trainer=fsdp2", "trainer.devices=8")
    for part in ("weights", "gradients", "optimizer states", "reference"):
        assert spread.memory.resident[part] == whole.memory.resident[part] / 8
    assert whole.run.shard == 1 and spread.memory.resident["gathered layers"] > 0


def test_what_is_on_the_host_is_not_on_the_card():
    spread = planned(CLIP, "trainer=fsdp2", "trainer.devices=8")
    offloaded = planned(CLIP, "trainer=fsdp2", "trainer.devices=8", "trainer.strategy.cpu_offload=true")
    there, here = spread.memory.resident, offloaded.memory.resident
    moved = {"weights", "gradients", "optimizer states", "reference"}
    assert there.keys() - here.keys() == moved and here.items() <= there.items()
    assert offloaded.memory.host == sum(there[part] for part in moved) and spread.memory.host == 0
    assert not offloaded.memory.phases["optimizer step"] and spread.memory.phases["optimizer step"]
    assert seconds(spread).keys() - seconds(offloaded).keys() == {"optimizer"}
    told = plan_text(offloaded)
    assert "in the memory of the host" in told and "times leave out the optimizer" in told
    alone = planned(CLIP, "trainer=fsdp2", "trainer.devices=1", "trainer.strategy.cpu_offload=true")
    assert alone.memory.resident.keys() == here.keys()
    on_cpus = ["trainer=fsdp2", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    assert not planned(*on_cpus, "trainer.strategy.cpu_offload=true").memory.host


def test_updates_that_are_matched_hold_and_take_more():
    plain, matched = planned("loss.beta=0"), planned("loss.beta=0", MATCHED)
    assert matched.memory.resident["optimizer states"] == 2 * plain.memory.resident["optimizer states"]
    assert matched.memory.phases["update"]["gradient of all tokens"] == 2 * matched.memory.resident["gradients"]
    assert seconds(matched).keys() - seconds(plain).keys() == {"gradient of all tokens"}
    assert seconds(matched)["optimizer"] > seconds(plain)["optimizer"]


@pytest.mark.parametrize("precision", TRAINER["precision"][0])
def test_a_precision_is_planned_as_lightning_reads_it(precision: Any):
    given = "null" if precision is None else precision
    trainer = Trainer(
        accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    assert planned(f"trainer.precision={given}").run.is_mixed is (trainer.precision == "bf16-mixed")


def test_gradients_go_over_the_network_between_nodes():
    one, two = (planned(CLIP, f"trainer.num_nodes={nodes}", f"trainer.devices={8 // nodes}") for nodes in (1, 2))
    assert seconds(two)["exchange of gradients"] > seconds(one)["exchange of gradients"]


def test_more_is_more():
    run = planned(CLIP)
    for changed in (
        replace(run.run, max_tokens=2 * run.run.max_tokens),
        replace(run.run, gradient_checkpointing=False),
        replace(run.run, chunk_size=4 * run.run.chunk_size),
    ):
        more = replace(run, run=changed).memory.phases["update"]
        assert sum(more.values()) > sum(run.memory.phases["update"].values())
    twice = replace(run, run=replace(run.run, completion_tokens=2 * run.run.completion_tokens))
    assert twice.seconds > run.seconds
    assert replace(run, options=Options(share=0.2)).seconds > run.seconds


def test_each_remedy_makes_the_run_fit_and_none_holds_a_smaller_one():
    plan = planned(CLIP)
    assert not plan.memory.fits and plan.remedies
    for chosen in plan.remedies:
        settings = {key: value for remedy in chosen for key, value in remedy.settings.items()}
        assert replace(plan, run=replace(plan.run, **settings)).memory.fits
        for left_out in chosen:
            fewer = {k: v for remedy in chosen if remedy is not left_out for k, v in remedy.settings.items()}
            assert not replace(plan, run=replace(plan.run, **fewer)).memory.fits


@pytest.mark.parametrize(
    ("overrides", "options", "offers"),
    [
        ([CLIP, "trainer=gpu", "trainer.devices=4", "model.freeze=[embeddings]"], {"card": "h200"}, True),
        ([CLIP, "trainer.devices=1", "trainer.precision=32-true"], {}, True),
        ([*TWO_NODES], {"card": "a100_40"}, True),
        ([*TWO_NODES, "trainer.devices=2"], {"card": "h200"}, True),
        ([CLIP, "trainer=fsdp2", "trainer.devices=8"], {"card": "a100_40"}, True),
        ([CLIP, "rollout=vllm_colocate"], {"card": "h200"}, True),
        ([CLIP, "rollout=vllm_server", "rollout.num_servers=8"], {}, False),
        ([CLIP, "rollout=vllm_colocate", "rollout.lora=adapters", ADAPTERS], {}, False),
        ([CLIP, "loss.beta=0", MATCHED], {}, False),
        (["model=shapes_untrained", "data.questions_per_step=40000"], {}, False),
        ([CLIP, "model.path=models/Experts"], {}, True),
    ],
)
def test_what_is_offered_is_taken_by_train_and_fits(
    overrides: list[str], options: dict[str, Any], offers: bool, tmp_path: Path
):
    """As text alone: each remedy behind the command line that it is for."""
    if "model.path=models/Experts" in overrides:
        overrides = [CLIP, f"model.path={folder_of_experts(tmp_path)}"]
    plan = planned(*overrides, **options)
    assert not plan.memory.fits
    words = [" ".join(remedy.words for remedy in chosen) for chosen in plan.remedies]
    assert any("trainer=fsdp2" in of_one or "cpu_offload" in of_one for of_one in words) is offers
    for of_one in {*words[:2], *words[-1:]}:  # composing takes a fifth of a second, and cases have most in common
        changed = config(*overrides, *shlex.split(of_one))
        assert make_plan(changed, Options(**options)).memory.fits, of_one
        assert changed["trainer"]["devices"] <= 8, of_one  # of a machine


def folder_of_experts(root: Path) -> Path:
    """A mixture of experts as large as a policy of 7B, by its numbers alone."""
    made = json.loads(config_of("qwen3_vl_moe", tokenizer().get_vocab()).to_json_string(use_diff=False))
    made["text_config"] |= {"hidden_size": 4096, "num_hidden_layers": 160, "moe_intermediate_size": 1024}
    (root / "config.json").write_text(json.dumps(made))
    return root


def test_every_method_and_engine_can_be_planned():
    for overrides in (
        ["algorithm=t_grpo"],
        ["algorithm=tw_grpo"],
        ["algorithm=sft"],
        ["algorithm=video_ktr_released"],
        ["weighting=batch_entropy", "attribution=none"],
        ["rollout=vllm_server", "rollout.overlap=1"],
        ["model=shapes_untrained"],
    ):
        plan = planned(*overrides)
        assert plan.memory.fits and plan.seconds > 0, overrides


def test_the_command_prints_and_writes_nothing_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main([CLIP, "card=h200", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["card"] == "h200" and printed["step_seconds"] > 0 and not list(tmp_path.iterdir())
    assert main([CLIP, "card=h200", "output=plan.json"]) == 0
    assert "It does not fit" in capsys.readouterr().out
    assert json.loads((tmp_path / "plan.json").read_text()) == printed
    assert main(["-m", "seed=0,1"]) == 0
    assert "2 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["card=h10"], "ConfigError: card=h10: no such card is known; did you mean h100?"),
        (["share=much"], "ConfigError: share=much: give a number, as share=0.4"),
        (["model.path=models/Mine"], "MissingModel: model.path=models/Mine: no model there, and none of that name"),
        (["trainer.devices=auto"], "ConfigError: trainer.devices=auto: a plan needs their number"),
        (["video.num_frame=8"], "ConfigError"),
        ([CLIP, "trainer=fsdp2_nodes"], "ConfigError: data.questions_per_step=8: 16 ranks share a batch evenly"),
        ([CLIP, "rollout=vllm_server"], "ConfigError: rollout.num_servers: 1 servers for 8 ranks; use a multiple"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr().err
    assert code == 2 and told.startswith("ktr.plan: ") and sentence in told and told.count("\n") == 1


def test_nothing_heavy_is_imported():
    code = f"import sys; from ktr.plan.__main__ import main; main([{CLIP!r}]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
