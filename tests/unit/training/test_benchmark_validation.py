"""A small part of a benchmark, always the same, is asked at each validation."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from lightning.pytorch import LightningModule, Trainer

from ktr.config.command_line import check_command_line, given
from ktr.config.composing import benchmark_nodes, compose, compose_unchecked, parse
from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import ConfigError, MissingData
from ktr.evaluation.benchmarks.own import OwnBenchmark
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.shapes.benchmark import ShapesBenchmark, shapes_benchmark
from ktr.shapes.dataset_folder import ShapesDataset
from ktr.shapes.example import Mixture
from ktr.shapes.world import WorldSettings
from ktr.training.benchmark_validation import BenchmarkValidation, fixed_part


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> ShapesBenchmark:
    world = WorldSettings(num_frames=16, min_events=3, max_events=4, frame_size=56, fps=2.0)
    dataset = ShapesDataset("validation", 12, 0, tmp_path_factory.mktemp("world"), world, Mixture())
    return shapes_benchmark(dataset)


def test_the_part_is_the_same_each_time_and_of_a_longer_one_the_start(benchmark: ShapesBenchmark):
    some, more = fixed_part(benchmark, 4), fixed_part(benchmark, 8)
    assert len(some) == 4 and [item for item in more if item in some] == some == fixed_part(benchmark, 4)
    assert len(fixed_part(benchmark, 99)) == 12 and [item.id for item in some] != ["0", "1", "2", "3"]


@pytest.fixture
def encoders(policy_folder: Path) -> EncoderPool:
    reader = VideoReader(VideoSettings(num_frames=16, max_pixels=3136, min_pixels=3136))
    return EncoderPool(PromptEncoder(policy_folder, PromptTemplate("", {}), reader, max_prompt_tokens=960))


def logging_to(logged: list[tuple[str, float]], policy: QwenVLPolicy) -> Mock:
    module = Mock(spec=LightningModule, policy=policy, engine=TransformersEngine(policy))
    module.log.side_effect = lambda name, value: logged.append((name, value))
    return module


def test_each_validation_logs_the_accuracy_of_the_same_items(
    benchmark: ShapesBenchmark, policy: QwenVLPolicy, encoders: EncoderPool
):
    callback = BenchmarkValidation({"shapes": benchmark}, 5, encoders, max_tokens=6, seed=0)
    logged: list[tuple[str, float]] = []
    module = logging_to(logged, policy)
    for _ in range(2):
        callback.on_validation_epoch_end(Mock(spec=Trainer, global_rank=0, world_size=1), module)
    assert logged[0] == logged[1] and logged[0][0] == "benchmark/shapes/accuracy"
    assert callback.summary["shapes"]["n"] == 5 and callback.summary["shapes"]["low"] <= logged[0][1]


def test_items_of_which_none_can_be_asked_end_the_run_in_a_sentence(
    benchmark: ShapesBenchmark, policy: QwenVLPolicy, policy_folder: Path
):
    reader = VideoReader(VideoSettings(num_frames=4, max_pixels=3136, min_pixels=3136))
    encoder = PromptEncoder(policy_folder, PromptTemplate("", {}), reader, 1)  # no prompt is as short
    callback = BenchmarkValidation({"shapes": benchmark}, 2, EncoderPool(encoder), max_tokens=2, seed=0)
    module = Mock(spec=LightningModule, policy=policy, engine=TransformersEngine(policy))
    with pytest.raises(MissingData, match=r"none of 2 items of shapes can be asked.*num_items"):
        callback.on_validation_epoch_end(Mock(spec=Trainer, global_rank=0, world_size=1), module)


def test_of_numbers_alone_their_mean_relative_accuracy_is_logged(
    benchmark: ShapesBenchmark, policy: QwenVLPolicy, encoders: EncoderPool, tmp_path: Path
):
    rows = json.loads(Path(benchmark.annotations).read_text())[:2]
    for row in rows:
        row |= {"problem_type": "regression", "options": [], "solution": "<answer>3</answer>"}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    numbers = OwnBenchmark(str(tmp_path / "rows.json"), benchmark.media_root)
    callback = BenchmarkValidation({"own": numbers}, 2, encoders, max_tokens=6, seed=0)
    logged: list[tuple[str, float]] = []
    callback.on_validation_epoch_end(Mock(spec=Trainer, global_rank=0, world_size=1), logging_to(logged, policy))
    assert [name for name, _ in logged] == ["benchmark/own/mra"] and callback.summary["own"]["mra"] == logged[0][1]


def test_benchmarks_of_a_training_are_looked_for_before_it_starts(tmp_path: Path):
    with pytest.raises(MissingData, match=r"benchmark\.annotations=.* does not exist\. Get it: "):
        check_command_line("train", ["validation.benchmarks=[mmvu]"])
    with pytest.raises(ConfigError, match="benchmark=mmvuu: conf/benchmark has no such file; did you mean mmvu"):
        check_command_line("train", ["validation.benchmarks=[mmvuu]"])
    rows = tmp_path / "a, b.json"
    rows.write_text(json.dumps([{"problem": "?", "solution": "A", "options": ["A. x"], "path": "v.mp4"}]))
    own = f"{{name: own, annotations: '{rows}', media_root: '{tmp_path}'}}"
    config = compose("train", [f"validation.benchmarks=[{own},shapes]"])
    nodes = benchmark_nodes(config)
    assert nodes["own"].annotations == str(rows) and nodes["shapes"].limit is None


@pytest.mark.parametrize(("data", "events"), [("shapes", 3), ("shapes_long", 5), ("own", 3)])
def test_the_embedded_world_is_asked_as_it_is_trained_on(data: str, events: int):
    nodes = benchmark_nodes(compose("train", [f"data={data}", "validation.benchmarks=[shapes]"]), overrides=[])
    assert nodes["shapes"].dataset.world.min_events == events


def test_a_benchmark_of_a_folder_beside_conf_is_measured_too(tmp_path: Path):
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "mine.yaml").write_text("defaults:\n  - shapes\n  - _self_\nlimit: 3\n")
    arguments = ["--config-dir", str(tmp_path), "validation.benchmarks=[mine]"]
    (job,) = check_command_line("train", arguments)
    overrides = given("train", arguments)[1].overrides
    assert benchmark_nodes(job, overrides=overrides)["mine"].limit == 3
    with pytest.raises(ConfigError, match="benchmark=mine: conf/benchmark has no such file"):
        benchmark_nodes(job)
    HydraConfig.instance().set_config(compose_unchecked("train", parse(overrides)))  # as in the job that runs
    try:
        assert benchmark_nodes(job)["mine"].limit == 3
    finally:
        Singleton._instances.pop(HydraConfig)


def test_a_benchmark_that_is_named_twice_is_refused_for_one_would_be_lost():
    for entries in ("[shapes,shapes]", "[{name: shapes, limit: 3},{name: shapes, limit: 4}]"):
        with pytest.raises(ConfigError, match=r"validation\.benchmarks: shapes is named twice"):
            check_command_line("train", [f"validation.benchmarks={entries}"])
