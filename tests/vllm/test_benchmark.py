"""One benchmark by each engine: the same predictions, item by item, at temperature 0."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.evaluation.benchmark_run import ask_benchmark
from ktr.export.exported_folder import export
from ktr.policy.families import load_policy

ENGINES = {
    "transformers": [],
    "vllm_colocate": ["rollout.enforce_eager=true"],
    "vllm_server": ["rollout.enforce_eager=true"],
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict]]:
    """The lines of each engine's run by item."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for engine, more in ENGINES.items():
        given = [
            "benchmark=shapes",
            "benchmark.limit=48",
            f"rollout={engine}",
            f"paths.runs={folder}",
            f"name={engine}",
        ]
        config = compose("evaluate", [*given, *more])
        path = Path(ask_benchmark(config).splitlines()[-1]).with_name("items.jsonl")
        found[engine] = {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}
    return found


@pytest.mark.parametrize("engine", ["vllm_colocate", "vllm_server"])
def test_each_engine_gives_the_same_answers(lines: dict[str, dict[str, dict]], engine: str):
    first, other = lines["transformers"], lines[engine]
    assert len(first) == 48 and first.keys() == other.keys()
    same = ("output", "prediction", "outcome", "score", "num_frames", "prompt_tokens", "completion_tokens", "prompt")
    assert [{key: line[key] for key in same} for line in first.values()] == [
        {key: line[key] for key in same} for line in other.values()
    ]


@pytest.mark.parametrize("engine", ["transformers", "vllm_colocate"])
def test_an_exported_run_answers_as_the_policy_it_is_of(lines: dict[str, dict[str, dict]], engine: str, tmp_path: Path):
    start = compose("train", ["name=run"])
    run = tmp_path / "run"
    load_policy(start.model.path).save(run / "policy")
    OmegaConf.save(start, run / "config.yaml", resolve=True)
    config = compose(
        "evaluate",
        [
            *("benchmark=shapes", "benchmark.limit=48", f"paths.runs={tmp_path}", f"rollout={engine}", "name=exported"),
            *ENGINES[engine],
        ],
    )
    config.model.path = str(export(run, tmp_path / "export"))
    path = Path(ask_benchmark(config).splitlines()[-1]).with_name("items.jsonl")
    outputs = {line["id"]: line["output"] for line in map(json.loads, path.read_text().splitlines())}
    assert outputs == {id: line["output"] for id, line in lines["transformers"].items()}
