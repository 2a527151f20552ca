"""A slip anywhere on a command line is one ConfigError that names the slip and the nearest right word."""

import pytest

from ktr.config.command_line import check_command_line
from ktr.errors import ConfigError

SLIPS = [
    (["trainer.max_setps=3"], "trainer.max_setps", "trainer.max_steps"),
    (["+trainer.max_setps=3"], "trainer.max_setps", "trainer.max_steps"),
    (["++trainer.max_setps=3"], "trainer.max_setps", "trainer.max_steps"),
    (["~trainer.max_setps"], "trainer.max_setps", "trainer.max_steps"),
    (["sead=1"], "sead", "seed"),
    (["+sead=1"], "sead", "seed"),
    (["max_steps=3"], "max_steps", "trainer.max_steps"),
    (["algoritm=grpo"], "algoritm", "algorithm"),
    (["algorithm=video_krt"], "video_krt", "video_ktr"),
    (["+experiment=vet_32"], "vet_32", "vet_32f"),
    (["logger=[csv,wand]"], "wand", "wandb"),
    (["attribution=vett"], "vett", "vet"),
    (["attribution=batch_entropy"], "attribution=batch_entropy", "weighting=batch_entropy"),
    (["paths.run=here"], "paths.run", "paths.runs"),
    (["video.num_frame=32"], "video.num_frame", "video.num_frames"),
    (["loss.reduction.denominater=selected"], "denominater", "loss.reduction.denominator"),
    (["attribution.signals.temporal.granulrity=frame"], "granulrity", "attribution.signals.temporal.granularity"),
    (["attribution.signals.tmporal.order=reverse"], "tmporal", "attribution.signals.temporal"),
    (["+attribution.signals.tmporal.order=reverse"], "tmporal", "attribution.signals.temporal"),
    (["attribution.combine=mean"], "attribution.combine", "weighting.combine"),
    (["+attribution.combine=mean"], "attribution.combine", "weighting.combine"),
    (["weighting.combin=mean"], "weighting.combin", "weighting.combine"),
    (["attribution.selection.ratio=0.3"], "attribution.selection.ratio", "selection.ratio"),
    (
        ["algorithm=tw_grpo", "attribution.divergence.detach=false"],
        "attribution.divergence.detach",
        "weighting.divergence.detach",
    ),
    (["reward.weights.accurcy=2"], "accurcy", "reward.weights.accuracy"),
    (["model.dtype=bf16"], "model.dtype='bf16'", "bfloat16"),
    (["model.lora={r:8,lora_alhpa:16}"], "lora_alhpa", "model.lora.lora_alpha"),
    (["logger=wandb", "+logger.wandb.offine=true"], "offine", "logger.wandb.offline"),
    (["+callbacks.mine._target_=ktr.record.throughput.Thruput"], "Thruput", "ktr.record.throughput.Throughput"),
    (["-m", "attribution=none,e,vett"], "vett", "vet"),
    (["-m", "seed=0,1", "trainer.max_setps=3"], "trainer.max_setps", "trainer.max_steps"),
    (["-m", "trainer.max_setps=2,3"], "trainer.max_setps", "trainer.max_steps"),
    (["--cfg", "job", "trainer.max_setps=3"], "trainer.max_setps", "trainer.max_steps"),
]


@pytest.mark.parametrize(
    ("arguments", "slip", "right"), SLIPS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_slip_is_named_with_the_nearest_right_word(arguments: list[str], slip: str, right: str):
    with pytest.raises(ConfigError) as caught:
        check_command_line("train", arguments)
    message = str(caught.value)
    assert slip in message and f"did you mean {right}?" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("trainer.max_steps=three", "trainer.max_steps"),
        ("seed=abc", "seed"),
        ("video.num_frames=32.5", "video.num_frames"),
        ("loss.beta=high", "loss.beta"),
        ("loss.beta=true", "loss.beta"),
        ("selection.eos_selectable=maybe", "selection.eos_selectable"),
        ("selection.scope=grup", "did you mean group"),
        ("attribution.signals.temporal.granularity=fram", "did you mean frame"),
        ("data.train.annotations=x", "data.train"),
    ],
)
def test_a_value_of_another_kind_names_its_own_key(override: str, key: str):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        check_command_line("train", [override])


def test_a_key_behind_an_interpolation_is_sent_to_where_it_stands():
    for key, place in {"algorithm.weighting": "weighting", "weighting.signals": "attribution.signals"}.items():
        with pytest.raises(ConfigError, match=rf"{key} is \$\{{{place}\}}, so set the key there"):
            check_command_line("train", [f"{key}.visual.shift=signed"])


def test_a_key_that_nothing_is_like_is_answered_with_each_key_that_there_is_once():
    with pytest.raises(ConfigError) as caught:
        check_command_line("train", ["attribution.signals.visual.qqq=1"])
    assert str(caught.value).endswith(
        ", ".join(f"attribution.signals.visual.{key}" for key in ("distance", "fraction", "masking", "media", "shift"))
    )


def test_what_is_right_passes():
    for override in (
        "+trainer.detect_anomaly=true",
        "optimizer.lr=1",
        "model.lora={r:8}",
        "attribution.signals.visual=null",
    ):
        check_command_line("train", ["--cfg", "job", override])


def test_a_whole_target_may_join_a_mapping():
    callback = "+callbacks.second._target_=ktr.record.throughput.Throughput"
    signal = "+attribution.signals.mine={_target_: ktr.attribution.signals.RandomSignal}"
    (job,) = check_command_line("train", ["--cfg", "job", callback, signal])
    assert "second" in job.callbacks and "mine" in job.weighting.signals


def test_unquoted_text_that_is_no_override_is_named():
    with pytest.raises(ConfigError, match=r"trainer\.max_steps"):
        check_command_line("train", ["trainer.max_steps"])


def test_a_text_that_needs_quotes_is_named_alone_with_the_remedy():
    for text in ("~/models/mine", "clips/été"):
        with pytest.raises(ConfigError, match=rf"^model\.path={text}: .* goes in quotes of its own, 'key=\"text\"'$"):
            check_command_line("train", ["--cfg", "job", "seed=1", f"model.path={text}"])
        check_command_line("train", ["--cfg", "job", "seed=1", f'model.path="{text}"'])


def test_no_key_of_hydra_is_suggested():
    with pytest.raises(ConfigError, match="unknown key foo: the config has advantage"):
        check_command_line("train", ["foo=1"])
