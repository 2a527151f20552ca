"""An exported checkpoint of adapters, cut into files: vLLM and transformers give the same answers, item by item."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from vllm.multimodal.media import MediaConnector

from ktr.config.composing import compose
from ktr.evaluation.benchmark_run import ask_benchmark
from ktr.export import exported_folder
from ktr.export.exported_folder import export
from ktr.policy.families import load_policy

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}
SAME = ("output", "prediction", "outcome", "num_frames", "prompt_tokens", "completion_tokens", "prompt")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    config: Any = compose("train", ["name=run", "model.lora={r: 4, target_modules: [q_proj, v_proj, down_proj]}"])
    config.paths.folder, config.paths.runs = run.name, str(run.parent)
    policy = load_policy(config.model.path, lora=LORA)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    policy.save(run / "checkpoints" / "step-000003")
    OmegaConf.save(config, run / "config.yaml", resolve=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exported_folder, "SHARD", "1MB")
        return export(run, run / "export", "last")


def answers(folder: Path, engine: str, runs: Path, *more: str) -> dict[str, dict[str, Any]]:
    """The lines of a benchmark's run by item."""
    given = ["benchmark=shapes", "benchmark.limit=24", f"rollout={engine}", f"paths.runs={runs}", f"name={engine}"]
    config = compose("evaluate", [*given, f"model.path={folder}", *more])
    path = Path(ask_benchmark(config).splitlines()[-1]).with_name("items.jsonl")
    return {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}


def test_vllm_and_transformers_answer_alike(exported: Path, tmp_path: Path):
    assert len(list(exported.glob("*.safetensors"))) > 1
    ours = answers(exported, "transformers", tmp_path)
    theirs = answers(exported, "vllm_colocate", tmp_path, "rollout.enforce_eager=true")
    assert len(ours) == 24 and ours.keys() == theirs.keys()
    for name, line in ours.items():
        assert {key: line[key] for key in SAME} == {key: theirs[name][key] for key in SAME}


@pytest.mark.parametrize("processor", ["Qwen2VLVideoProcessor", "Qwen3VLVideoProcessor"])
def test_a_server_by_the_line_of_its_card_picks_as_many_frames(exported: Path, processor: str, tmp_path: Path):
    (given,) = re.findall(r"vllm serve run --media-io-kwargs '(.*)'", (exported / "README.md").read_text())
    validation = compose("train", ["data.validation.num_questions=1", "data.validation.world.num_frames=40"]).data
    (question,) = instantiate(validation.validation).questions
    clip = question.media[0].path
    connector = MediaConnector(media_io_kwargs=json.loads(given), allowed_local_media_path=str(clip.parent))
    frames, about = connector.fetch_video(f"file://{clip}", video_processor=processor).media
    assert len(frames) == 16 and about["total_num_frames"] == 40 and len(about["frames_indices"]) == 16
