"""Benchmarks and records on evaluate's command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import instantiate

from ktr.config.benchmark_input import check_benchmark
from ktr.config.command_line import check_command_line
from ktr.config.composing import compose
from ktr.config.search_path import CONF
from ktr.errors import ConfigError, InputError, MissingData
from tests.programs import WATCHED, outside_environment

BENCHMARKS = sorted(file.stem for file in (CONF / "benchmark").glob("*.yaml") if file.stem not in ("none", "own"))


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "shapes"])
def test_every_benchmark_composes_and_names_a_rule_and_how_to_get_it(name: str):
    from ktr.evaluation.rules.named import RULES

    config = compose("dry_run", [f"benchmark={name}"])
    benchmark = instantiate(config.benchmark)
    assert benchmark.rule in RULES and benchmark.how_to_get.startswith("Get it: ") and not benchmark.allow_missing
    with pytest.raises(MissingData, match=r"benchmark\.annotations=.* does not exist\. Get it: "):
        check_benchmark(config)


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "decoding").glob("*.yaml")))
def test_every_decoding_composes_and_asks(name: str):
    config = compose("evaluate", ["benchmark=shapes", f"decoding={name}"])
    first = instantiate(config.decoding).next(())
    assert first.sampling.max_tokens == config.sampling.max_tokens and first.num_frames in (16, 32)


def test_a_published_benchmark_is_asked_as_the_field_does_unless_the_command_line_says_otherwise():
    config = compose("evaluate", ["benchmark=videomme"])
    assert config.resume and config.model.path.endswith("Qwen2.5-VL-7B-COT-SFT") and config.model.dtype == "auto"
    assert (config.video.max_pixels, config.sampling.max_tokens) == (256 * 28 * 28, 1024)
    sampling = instantiate(config.decoding.sampling)
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.1, 0.001, 1024)
    given = compose(
        "evaluate", ["benchmark=videomme", "video=paper", "decoding=greedy", "prompt=shapes", "resume=false"]
    )
    assert (given.video.max_pixels, given.decoding.sampling.temperature, given.resume) == (128 * 28 * 28, 0.0, False)
    assert given.prompt.instruction == "" and not compose("evaluate").resume


def test_several_benchmarks_are_runs_of_their_own():
    from ktr.evaluate import _by_benchmark

    assert [*_by_benchmark(["a=1", "benchmark=mmvu,shapes", "b"])] == [
        ["a=1", "benchmark=mmvu", "b"], ["a=1", "benchmark=shapes", "b"]
    ]  # fmt: skip
    assert _by_benchmark(["a=1,2"]) == [["a=1,2"]] and _by_benchmark(["-m", "benchmark=a,b"]) == [
        ["-m", "benchmark=a,b"]
    ]


def test_the_embedded_world_is_a_benchmark(tmp_path: Path):
    from ktr.evaluation.benchmarks.check import check

    few = ["benchmark=shapes", f"paths.cache={tmp_path}", "data.validation.num_questions=2"]
    (config,) = check_command_line("dry_run", few)
    assert len(check(instantiate(config.benchmark)).require()) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["dry_run=true"], ConfigError, "give benchmark=… as"),
        (["benchmark=mmvuu"], ConfigError, "did you mean mmvu"),
        (["benchmark=own", "dry_run=true"], ConfigError, r"benchmark\.annotations has no value"),
        (["benchmark=mmvu", "benchmark.anotations=a"], ConfigError, r"did you mean benchmark\.annotations"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_sentence(arguments: list[str], error: type[Exception], sentence: str):
    with pytest.raises(error, match=sentence):
        check_command_line("evaluate", arguments)


def test_records_that_are_not_there_and_unknown_fields_are_named(tmp_path: Path):
    file = tmp_path / "items.jsonl"
    with pytest.raises(InputError, match="there is no such file"):
        check_command_line("rescore", [f"rescore={file}"])
    file.write_text("{}")
    check_command_line("rescore", [f"rescore={file}", "rule=[strict,lenient]", "fields.id=[a,b.c]"])
    with pytest.raises(ConfigError, match=r"fields\.outptu: did you mean fields\.output"):
        check_command_line("rescore", [f"rescore={file}", "fields.outptu=a"])
    with pytest.raises(ConfigError, match="metric=macroo: choose one of micro"):
        check_command_line("rescore", [f"rescore={file}", "metric=macroo"])


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WATCHED, "ktr.evaluate", *arguments]
    environment = outside_environment() | {"PATH": os.environ["PATH"]}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)


def test_records_are_rescored_and_benchmarks_looked_at_without_torch_and_without_a_trace(tmp_path: Path):
    records = tmp_path / "a=b, c.jsonl"
    records.write_text(json.dumps({"id": 1, "response": "<answer>A</answer>", "gt": "A"}))
    done = run(tmp_path, f"rescore={records}", "rule=strict")
    assert done.returncode == 0 and "100.00" in done.stdout and "1 right" in done.stdout, done.stderr
    assert done.stderr.splitlines()[-1] in ("imported: ", "imported: scipy")
    row = {"problem": "?", "solution": "A", "options": ["A. x", "B. y"], "path": "v/Art/0.mp4"}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    given = ["benchmark=mmvu", "benchmark.annotations=rows.json", "benchmark.media_root=.", "dry_run=true"]
    done = run(tmp_path, *given)
    assert done.returncode == 0 and "missing: v/Art/0.mp4" in done.stdout, done.stderr
    assert "torch" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a=b, c.jsonl", "rows.json"]
