"""Every file of conf/ composes and instantiates, and the compositions are what their names say."""

import os
import re
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.requirements import require_paths
from ktr.config.search_path import CONF
from ktr.errors import ConfigError, MissingData, MissingModel
from tests.tiny_policy import VIDEO

EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
EMBEDDED = [name for name in EXPERIMENTS if "shapes" in name]
REAL = [name for name in EXPERIMENTS if "shapes" not in name and name != "paper"]  # paper is what they share
GROUPS = {
    folder.relative_to(CONF).as_posix(): sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in CONF.iterdir()
    if folder.is_dir() and folder.name != "experiment"
}
GROUPS["algorithm"].remove("policy_gradient")  # what algorithms share, no algorithm
for group in ("asked", "benchmark", "decoding", "endpoint", "judge"):  # of evaluate alone, with tests of its own
    GROUPS.pop(group)
WEIGHTINGS = GROUPS.pop("weighting")  # which of them goes with which signals is a test of its own
READ_SIGNALS = {
    "key_tokens", "key_tokens_released", "random_tokens", "reasoning_tokens", "rest_tokens", "visual_dependency",
}  # fmt: skip
NEED_WEIGHTS_OR_DATA = {"algorithm", "data", "encoder", "hydra", "model", "paths", "rollout"}
ON_CPU = ["trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true"]
# Where an experiment is not as the released run: the rate, and the settings of TW-GRPO's own run.
RATES = {"grpo_32f": 1e-6, "t_grpo_32f": 1e-6, "tw_grpo_32f": 1e-6, "sft_32f": 1e-6}
TW_GRPO = {"top_p": 1.0, "beta": 0.0, "max_grad_norm": 20.0}
ROWS_OF_THE_PAPER = {
    "none": set(), "e": {"entropy"}, "v": {"visual"}, "t": {"temporal"}, "ve": {"visual", "entropy"},
    "vt": {"visual", "temporal"}, "et": {"entropy", "temporal"}, "vet": {"visual", "entropy", "temporal"},
}  # fmt: skip


@pytest.mark.parametrize("turn", range(max(map(len, GROUPS.values()))))
def test_every_choice_of_every_group_composes_and_instantiates(turn: int, tmp_path: Path):
    """In turn n each group takes its n-th file: together the turns take all of them."""
    chosen = [f"{group}={choices[turn % len(choices)]}" for group, choices in GROUPS.items()]
    if "rollout=vllm_server" in chosen:  # which does not go with every trainer
        chosen.remove(next(choice for choice in chosen if choice.startswith("trainer=")))
    config = compose("train", [*chosen, "weighting=key_tokens", *ON_CPU, f"paths.runs={tmp_path}"])
    for group in set(GROUPS) - NEED_WEIGHTS_OR_DATA:
        instantiate(config[group])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("program", ["train", "attribute"])
def test_every_weighting_goes_with_no_signal_and_with_all_or_says_that_it_reads_none(program: str, weighting: str):
    alone = compose(program, [f"weighting={weighting}", "attribution=none"]).weighting
    if weighting == "rest_tokens":
        with pytest.raises(InstantiationException, match="without a signal every token counts"):
            instantiate(alone)
    else:
        assert instantiate(alone).required_views([VIDEO]) == ()
    both = [f"weighting={weighting}", "attribution=vet"]
    if weighting in READ_SIGNALS:
        assert set(instantiate(compose(program, both).weighting).signals) == {"visual", "entropy", "temporal"}
    else:
        with pytest.raises(ConfigError, match=rf"attribution=vet .*{both[0]} .*choose weighting=key_tokens, or attri"):
            compose(program, both)


@pytest.mark.parametrize(
    ("overrides", "on"),
    [
        (["algorithm=tw_grpo", "attribution=vet"], "visual, entropy, temporal"),
        (["weighting=group_divergence", "attribution=v"], "visual"),
        (["weighting=batch_entropy"], "visual, temporal"),  # of the default method
        (["algorithm=tw_grpo", "+attribution.signals.mine={_target_: ktr.attribution.signals.RandomSignal}"], "mine"),
    ],
)
def test_signals_that_change_nothing_are_refused(overrides: list[str], on: str):
    with pytest.raises(ConfigError, match=rf"attribution=\w+ has signals \({on}\) that weighting=\w+ does not read"):
        compose("train", overrides)
    compose("train", [*overrides, "weighting=key_tokens"])


def test_a_weighting_that_measures_entropy_itself_takes_the_place_of_that_signal():
    minority = compose("train", ["algorithm=entropy_minority", "weighting=batch_entropy"])
    assert minority.name == "entropy_minority-e-16f-s0-batch_entropy"
    assert type(instantiate(minority.weighting)).__name__ == "BatchEntropy"
    assert compose("train", ["weighting=batch_entropy", "attribution=none"]).attribution == minority.attribution
    compose("train", ["weighting=group_divergence", "attribution=e", "attribution.signals.entropy=null"])


@pytest.mark.parametrize("program", ["train", "evaluate", "attribute", "study"])
def test_every_program_composes(program: str):
    config = compose(program)
    assert f"-{config.video.num_frames}f-" in config.name and config.paths.run_dir.endswith(config.name)


@pytest.mark.parametrize(("row", "signals"), ROWS_OF_THE_PAPER.items())
def test_a_row_of_the_paper_is_its_signals(row: str, signals: set[str]):
    weighting = instantiate(compose("train", [f"attribution={row}"]).weighting)
    views = {type(view).__name__ for view in weighting.required_views([VIDEO])}
    assert weighting.signals.keys() == signals
    assert views == {{"visual": "MaskedVideo", "temporal": "ShuffledFrames"}[s] for s in signals - {"entropy"}}


def test_the_command_line_wins_over_what_an_algorithm_implies():
    assert compose("train", ["algorithm=grpo"]).attribution.signals == {}
    assert set(compose("train", ["algorithm=grpo", "attribution=vet"]).weighting.signals) == {*ROWS_OF_THE_PAPER["vet"]}
    assert set(compose("train", ["algorithm=video_ktr"]).attribution.signals) == {"visual", "entropy", "temporal"}
    assert set(compose("train", ["algorithm=video_ktr", "attribution=e"]).attribution.signals) == {"entropy"}
    assert set(compose("train", ["+experiment=vet_32f", "attribution=t"]).attribution.signals) == {"temporal"}


def test_grpo_and_video_ktr_without_signals_are_one_composition():
    grpo, ktr = compose("train", ["algorithm=grpo", "name=n"]), compose("train", ["attribution=none", "name=n"])
    grpo.labels = ktr.labels
    assert grpo == ktr


def test_a_method_is_its_parts_and_any_weighting_goes_with_any_reward():
    t_grpo = compose("train", ["algorithm=t_grpo"])
    assert t_grpo.attribution.signals == {} and "temporal_contrast" in t_grpo.reward.rewards
    both = compose("train", ["algorithm=t_grpo", "attribution=vet", "reward=video_r1"])
    assert set(both.attribution.signals) == {"visual", "entropy", "temporal"}
    assert set(both.reward.rewards) == {"accuracy", "format", "length", "temporal_contrast"}
    tw_grpo = compose("train", ["algorithm=tw_grpo"])
    assert tw_grpo.weighting.alpha == 1.7 and tw_grpo.reward.rewards.accuracy.multiple_choice == "soft"
    assert (tw_grpo.loss.clip_low, tw_grpo.loss.clip_high, tw_grpo.loss.beta) == (0.2, 0.28, 0.0)
    assert tw_grpo.loss.reduction.reduction == "token_mean" and tw_grpo.data.transform.probability == 0.5
    assert compose("train", ["algorithm=tw_grpo", "loss=clipped"]).loss.clip_high == 0.2
    minority = compose("train", ["algorithm=entropy_minority"])
    assert set(minority.attribution.signals) == {"entropy"} and minority.selection.ratio == 0.2


@pytest.mark.parametrize("frames", [16, 32, 64])
def test_frames_reach_the_reader_and_the_world(frames: int):
    config = compose("train", [f"video.num_frames={frames}"])
    assert config.encoder.reader.settings.num_frames == config.data.train.world.num_frames == frames


def test_shuffling_keeps_patches_whole_in_the_world_and_moves_frames_in_the_paper():
    assert compose("train").attribution.signals.temporal.granularity == "temporal_patch"
    paper = compose("train", ["+experiment=vet_16f"])
    assert paper.attribution.signals.temporal.granularity == "frame"


@pytest.mark.parametrize("name", REAL)
def test_a_real_experiment_has_the_released_settings_and_instantiates_shrunken(
    name: str, tiny_model: Path, rows: Path, tmp_path: Path
):
    from ktr.training.run import build_module

    overrides = [f"+experiment={name}", f"model.path={tiny_model}", "model.dtype=float32", f"paths.runs={tmp_path}"]
    mixed = ["train.parts.video_r1", "train.parts.video_holmes"] if name != "sft_32f" else ["train"]
    for part in (*mixed, "validation"):
        overrides += [f"data.{part}.annotations={rows}/rows.json", f"data.{part}.media_root={rows}"]
    overrides += ["data.train.take.video_r1={video: 2, image: 0}"] if len(mixed) > 1 else []
    config = compose("train", overrides)
    require_paths(config)
    own = TW_GRPO if name == "tw_grpo_32f" else {"top_p": 0.95, "beta": 0.04, "max_grad_norm": 5.0}
    sampling, optimizer = config.sampling, config.optimizer
    assert (sampling.num_completions, sampling.max_tokens, sampling.temperature) == (8, 768, 1.0)
    assert config.encoder.max_prompt_tokens == 16384 and config.video.max_pixels == 128 * 28 * 28
    assert own == {"top_p": sampling.top_p, "beta": config.loss.beta, "max_grad_norm": optimizer.max_grad_norm}
    assert (optimizer.lr, optimizer.weight_decay) == (RATES.get(name, 2e-6), 0.01)
    assert config.video.num_frames == int(name.rpartition("_")[2].removesuffix("f"))

    encoder = instantiate(config.encoder)
    module = build_module(config, instantiate(config.model))
    data = instantiate(config.data, encode=encoder.encode)
    contrast = {"temporal_contrast"} if name == "t_grpo_32f" else set()
    assert set(module.reward.rewards) == {"accuracy", "format", "length"} | contrast
    if name != "sft_32f":
        assert module.learner.loss.needs_reference is (own["beta"] > 0)
    assert encoder.encode(data.train[0]).num_tokens > 0 and len(data.train) == (4 if name == "sft_32f" else 2 + 4)


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_experiment_instantiates(name: str, tmp_path: Path):
    from ktr.training.run import build_module

    overrides = [f"paths.{folder}={tmp_path}" for folder in ("runs", "cache")]
    overrides += [f"data.{part}.num_questions=2" for part in ("train", "validation")]
    config = compose("train", [f"+experiment={name}", *overrides])
    encoder, module = instantiate(config.encoder), build_module(config, instantiate(config.model))
    data = instantiate(config.data, encode=encoder.encode)
    assert module.demonstrations is not None and len(data.train) == len(data.validation) == 2
    assert 0 < encoder.encode(data.train[0]).num_tokens <= config.encoder.max_prompt_tokens


def test_a_missing_model_is_named_with_the_way_to_get_it(tmp_path: Path):
    config = compose("train", ["+experiment=vet_32f", f"paths.models={tmp_path}"])
    with pytest.raises(MissingModel, match=r"Qwen2\.5-VL-7B-COT-SFT.* hf download .*model\.path"):
        require_paths(config)


def test_missing_data_is_named_with_the_way_to_get_it(tmp_path: Path, tiny_model: Path):
    config = compose(
        "train", ["+experiment=vet_32f", "data=video_r1_260k", f"model.path={tiny_model}", f"paths.data={tmp_path}"]
    )
    with pytest.raises(
        MissingData, match=r"data\.train\.annotations=.*260k\.json does not exist\. Get it: hf download"
    ):
        require_paths(config)


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_function_that_reads_rows_is_looked_for_before_any_work(
    program: str, part: str, tiny_model: Path, rows: Path
):
    if (program, part) == ("evaluate", "train"):
        return  # there it is that of the held-out rows
    given = ["data=video_r1", "encoder=paper", "video=paper", f"model.path={tiny_model}", "name=n"]
    for of in ("train", "validation") if program == "train" else ("validation",):
        given += [f"data.{of}.annotations={rows}/rows.json", f"data.{of}.media_root={rows}"]
    (job,) = check_command_line(program, [*given, f"data.{part}.format=ktr.data.rows.with_numbers_written"])
    data = instantiate(job.data, encode=len)
    assert len(getattr(data, part)) == 4
    slip = "ktr.data.rows.with_nmbers_written"
    with pytest.raises(ConfigError, match=rf"data\.{part}\.format={re.escape(slip)}: .*did you mean .*_numbers_wr"):
        check_command_line(program, [*given, f"data.{part}.format={slip}"])


def test_the_jobs_of_a_sweep_are_in_the_order_of_hydra_s_own_sweeper():
    jobs = check_command_line("train", ["-m", "--cfg", "job", "seed=0,1", "selection.ratio=0.5,0.3", "seed=range(2,4)"])
    assert [(job.seed, job.selection.ratio) for job in jobs] == [(2, 0.5), (2, 0.3), (3, 0.5), (3, 0.3)]


@pytest.mark.parametrize("sweep", ["seed=interval(0,1)", "attribution=glob(v*)"])
def test_a_sweep_that_does_not_name_its_values_is_refused(sweep: str):
    with pytest.raises(ConfigError, match=re.escape(sweep)):
        check_command_line("train", ["-m", sweep])


def test_a_value_that_must_be_given_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"model\.path has no value"):
        compose("train", ["model.path=???"])


def test_nothing_in_conf_names_a_machine():
    for file in CONF.rglob("*.yaml"):
        assert not any(part in file.read_text() for part in (": /", "=/", os.path.expanduser("~") + "/"))
