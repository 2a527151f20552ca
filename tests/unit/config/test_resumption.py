"""What a resumed run may be told anew is taken, and recorded; all else is refused by name, old and new."""

import shutil
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.resumption import check_resumption, checkpoint_folder, resumed_checkpoint
from ktr.errors import ConfigError, MissingData


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def config(runs: Path):
    """The config of a command line that would go on with the run."""
    return cache(lambda *overrides: compose("train", ["name=run", f"paths.runs={runs}", *overrides]))


@pytest.fixture(scope="module")
def written(config):
    return cache(lambda *overrides: OmegaConf.to_yaml(config(*overrides), resolve=True))


@pytest.fixture
def begin(runs: Path, written):
    """Makes the run's folder, with its config and checkpoints."""

    def begin(*overrides: str, steps: tuple[int, ...] = (2, 4)) -> None:
        for step in steps:
            (runs / "run" / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
        (runs / "run" / "config.yaml").write_text(written(*overrides))

    yield begin
    shutil.rmtree(runs / "run", ignore_errors=True)


def test_a_run_that_goes_on_as_it_was_changes_nothing(begin, config):
    begin()
    assert check_resumption(config()) == {}


def test_a_run_without_a_checkpoint_begins_at_the_start_with_any_settings(begin, config, runs: Path):
    begin()
    shutil.rmtree(runs / "run" / "checkpoints")
    assert check_resumption(config("seed=1")) == {} and resumed_checkpoint(config("seed=1")) is None


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.weight_decay=0.5", "optimizer.weight_decay: 0.0 → 0.5"),
        ("optimizer.betas=[0.9,0.95]", "optimizer.betas: [0.9, 0.99] → [0.9, 0.95]"),
        ("algorithm=grpo", "labels.algorithm: video_ktr → grpo"),
        ("loss.beta=0.04", "loss.beta: 0.0 → 0.04"),
        ("seed=1", "seed: 0 → 1"),
        ("data.questions_per_step=8", "data.questions_per_step: 16 → 8"),
        ("data.validation.num_questions=8", "data.validation.num_questions: 600 → 8"),
        ("sampling.top_p=0.9", "sampling.top_p: 1.0 → 0.9"),
        ("algorithm.updates_per_rollout=2", "algorithm.updates_per_rollout: 1 → 2"),
        ("trainer.precision=bf16-mixed", "trainer.precision: 32-true → bf16-mixed"),
        ("video.num_frames=8", "video.num_frames: 16 → 8"),
        ("callbacks.model_checkpoint.folder=elsewhere", "callbacks.model_checkpoint.folder: <run_dir>/checkpoints → "),
    ],
)
def test_what_decides_the_result_is_refused_by_name(begin, config, override: str, named: str):
    begin()
    with pytest.raises(ConfigError) as caught:
        check_resumption(config(override))
    said = str(caught.value)
    assert named in said and "give the old values, or another name=…" in said and "\n" not in said


def test_all_of_it_is_named_and_each_only_once(begin, config):
    begin()
    with pytest.raises(ConfigError) as caught:
        check_resumption(config("optimizer.weight_decay=0.5", "sampling.top_p=0.9", "optimizer.lr=1", "seed=1"))
    assert "(optimizer.weight_decay: 0.0 → 0.5, sampling.top_p: 1.0 → 0.9, seed: 0 → 1)" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("optimizer.lr=0.5", {"optimizer.lr": (1e-4, 0.5)}),
        ("optimizer.warmup_steps=0", {"optimizer.warmup_steps": (10, 0)}),
        ("trainer.max_steps=50", {"trainer.max_steps": (120, 50)}),
        ("trainer.max_steps=4", {"trainer.max_steps": (120, 4)}),
        ("trainer.val_check_interval=7", {"trainer.val_check_interval": (None, 7)}),
        ("callbacks.model_checkpoint.keep=5", {"callbacks.model_checkpoint.keep": (2, 5)}),
        ("callbacks.rollout_log.every_n_steps=3", {"callbacks.rollout_log.every_n_steps": (1, 3)}),
        ("paths.cache=elsewhere", {"paths.cache": ..., "data.train.cache": None}),
        (
            "trainer=ddp",
            {
                "trainer.devices": (1, 2),
                "trainer.strategy": ...,
                "trainer.strategy._target_": ...,
                "trainer.strategy.process_group_backend": ...,
                "trainer.strategy.start_limit_s": ...,
                "trainer.strategy.time_limit_s": ...,
            },
        ),
        ("scorer.max_tokens_per_pass=512", {"scorer.max_tokens_per_pass": (16384, 512)}),
        ("probe.num_questions=3", {"probe.num_questions": (96, 3)}),
    ],
)
def test_what_cannot_change_earlier_steps_is_taken_and_told(begin, config, override: str, changed: dict):
    begin()
    told = check_resumption(config(override))
    assert set(told) == {key for key, pair in changed.items() if pair is not None}
    assert all(told[key] == pair for key, pair in changed.items() if isinstance(pair, tuple))


@pytest.mark.parametrize("earlier", ["prefetch: true", "num_decoders: 7"])
def test_how_videos_are_read_ahead_is_no_setting_by_whatever_name(begin, config, runs: Path, earlier: str):
    begin()
    file = runs / "run" / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("num_decoders: 1", earlier))
    assert file.read_text() != text
    assert check_resumption(config()) == {}


def test_a_folder_that_was_moved_is_the_same_run(begin, runs: Path, tmp_path: Path):
    begin()
    (tmp_path / "moved").mkdir()
    (runs / "run").rename(tmp_path / "moved" / "run")
    moved = compose("train", ["name=run", f"paths.runs={tmp_path / 'moved'}"])
    assert set(check_resumption(moved)) == {"paths.runs", "paths.run_dir"}
    assert resumed_checkpoint(moved) == tmp_path / "moved" / "run" / "checkpoints" / "step-000004"


def test_a_config_without_a_key_is_said_to_be_of_another_version(begin, config, runs: Path):
    begin()
    path = runs / "run" / "config.yaml"
    written = OmegaConf.load(path)
    del written.selection.ties, written.algorithm.weighting.selection.ties, written.weighting.selection.ties
    path.write_text(OmegaConf.to_yaml(written))
    with pytest.raises(ConfigError, match=r"selection\.ties: None → deterministic.*has no selection\.ties: .*version"):
        check_resumption(config())


@pytest.mark.parametrize("text", ["", "a: [", "- 1", None])
def test_a_config_that_cannot_be_read_is_an_error_with_its_remedy(begin, config, runs: Path, text: str | None):
    begin()
    path = runs / "run" / "config.yaml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(MissingData, match=r"config\.yaml .*another name=") as caught:
        check_resumption(config())
    assert "\n" not in str(caught.value)


def test_a_run_cannot_be_cut_shorter_than_it_is(begin, config):
    begin()
    with pytest.raises(ConfigError, match=r"max_steps=3: .* is at step 4 already"):
        check_resumption(config("trainer.max_steps=3"))


def test_a_longer_run_takes_the_batch_that_was_cut_as_a_whole(begin, config):
    begin("algorithm.updates_per_rollout=3", "trainer.max_steps=4", steps=(3, 4))
    for max_steps, step in ((4, 4), (7, 3)):
        checkpoint = resumed_checkpoint(config("algorithm.updates_per_rollout=3", f"trainer.max_steps={max_steps}"))
        assert checkpoint is not None and checkpoint.name == f"step-{step:06d}"


def test_the_command_line_is_refused_before_any_work(begin, runs: Path, tiny_model: Path):
    begin(f"model.path={tiny_model}")
    with pytest.raises(ConfigError, match=r"optimizer\.weight_decay: 0\.0 → 1"):
        check_command_line(
            "train", ["name=run", f"paths.runs={runs}", f"model.path={tiny_model}", "optimizer.weight_decay=1"]
        )


def test_a_run_may_be_without_an_observer():
    job = compose("train", ["callbacks.model_checkpoint=null", "callbacks.progress=null"])
    assert checkpoint_folder(job) == Path(job.paths.run_dir, "checkpoints")
