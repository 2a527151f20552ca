"""An exported folder is the run's policy: transformers loads it as it is, with the run's pixels, prompt and card."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForImageTextToText, AutoProcessor

from ktr.config.as_trained import ask_as_trained
from ktr.config.command_line import compose
from ktr.export import __main__ as program
from ktr.export.exported_folder import export
from ktr.policy.families import load_policy
from tests.tiny_policy import random_prompt

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture(scope="module")
def run(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with adapters that has ended: its config, two checkpoints, its policy, its record."""
    folder = tmp_path_factory.mktemp("run")
    given = [
        f"model.path={policy_folder}",
        "prompt.instruction='so ?'",
        "video.max_pixels=6272",
        "video.min_pixels=1568",
    ]
    config = compose("train", [*given, "model.lora={r: 4, lora_alpha: 8, target_modules: [q_proj, v_proj, down_proj]}"])
    config.paths.folder, config.paths.runs = folder.name, str(folder.parent)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    policy = load_policy(policy_folder, lora=LORA)
    for step in (2, 4):
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        policy.save(folder / "checkpoints" / f"step-{step:06}")
    policy.save(folder / "policy", merge_adapters=True)
    accuracy = {"greedy": {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 80}}
    (folder / "summary.json").write_text(json.dumps({"num_updates": 4, "accuracy_after": accuracy}))
    (folder / "record.json").write_text(json.dumps({"git": {"commit": "a" * 40, "dirty": False}}))
    return folder


def logits(folder: Path) -> torch.Tensor:
    """Those of a prompt with a video, by transformers' own class."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = random_prompt(load_policy(folder), 0)
    kinds = torch.where(prompt.input_ids_P == model.config.video_token_id, 2, 0)[None]
    with torch.no_grad():
        return model(
            input_ids=prompt.input_ids_P[None],
            attention_mask=torch.ones_like(prompt.input_ids_P)[None],
            pixel_values_videos=prompt.pixels_NC,
            video_grid_thw=torch.tensor([medium.grid_thw for medium in prompt.media]),
            second_per_grid_ts=torch.tensor([1.0]),
            mm_token_type_ids=kinds,
        ).logits


def test_the_final_policy_and_a_checkpoint_of_adapters_are_whole_models(run: Path, tmp_path: Path, policy_folder: Path):
    final = export(run, tmp_path / "final")
    last, earlier = export(run, tmp_path / "last", "last"), export(run, tmp_path / "earlier", "2")
    torch.testing.assert_close(logits(final), logits(last), rtol=1e-5, atol=1e-5)
    assert (logits(final) - logits(earlier)).abs().max() > 1e-3 < (logits(final) - logits(policy_folder)).abs().max()
    assert not (final / "adapter_config.json").exists() and len(list(final.glob("*.safetensors"))) == 1


def test_its_processor_has_the_pixels_of_the_run_and_its_card_the_record(run: Path, tmp_path: Path):
    result = {
        "benchmark": "mmvu", "identity": {"video": {"num_frames": 32}, "rule": "lenient"},
        "summary": {"accuracy": 0.61, "accuracy_low": 0.57, "accuracy_high": 0.65, "n": 625},
    }  # fmt: skip
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text(json.dumps(result))
    folder = export(run, tmp_path / "out", dtype="bfloat16", results=[tmp_path / "results"])
    processor = AutoProcessor.from_pretrained(folder)
    for part in (processor.image_processor, processor.video_processor):
        assert (part.size.shortest_edge, part.size.longest_edge) == (1568, 6272)
    assert load_policy(folder, dtype="auto").dtype == torch.bfloat16
    card = (folder / "README.md").read_text()
    for fact in (
        "base_model: ", "> so ?", "| held-out questions, greedy | 50.0 | 40.0 to 60.0 | 80 |", "aaaaaaaaaaaa |",
        "| mmvu, 32 frames, rule lenient | 61.0 | 57.0 to 65.0 | 625 |", "video_ktr, token signals: vet, 4 updates",
    ):  # fmt: skip
        assert fact in card, fact


def test_ktr_asks_it_as_it_was_trained(run: Path, tmp_path: Path):
    config = compose("evaluate", ["benchmark=shapes"])
    config.model.path = str(export(run, tmp_path / "elsewhere"))
    ask_as_trained(config, [])
    assert (config.video.max_pixels, config.prompt.instruction) == (6272, "so ?")


def test_an_export_is_there_whole_or_not_at_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    export(run, tmp_path / "out")
    before = (tmp_path / "out" / "README.md").read_text()
    monkeypatch.setattr("ktr.export.exported_folder.model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(run, tmp_path / "out", "2")
    assert (tmp_path / "out" / "README.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{tmp}"], "there is no config.yaml; name a run's folder"),
        (["{run}", "--checkpoint", "3"], "has those of updates 2, 4; name one of them, or last"),
        (["{run}", "--output", "{run}"], "it holds other files"), (["{run}", "--results", "{tmp}"], "no results.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_one_sentence(
    run: Path, tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    given = [argument.format(run=run, tmp=tmp_path) for argument in arguments]
    assert program.main([*given, *([] if "--output" in given else ["--output", str(tmp_path / "out")])]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_adapters_without_their_base_say_which_model_is_gone(run: Path, tmp_path: Path):
    config = OmegaConf.load(run / "config.yaml")
    config.model.path = "/gone"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    OmegaConf.save(config, tmp_path / "run" / "config.yaml")
    (tmp_path / "run" / "checkpoints" / "step-000002").symlink_to(run / "checkpoints" / "step-000002")
    with pytest.raises(Exception, match=r"the run's model\.path=/gone: no model there"):
        export(tmp_path / "run", tmp_path / "out", "last")
    with pytest.raises(
        Exception, match="has not finished, and has no policy yet; its last checkpoint is that of update 2"
    ):
        export(tmp_path / "run", tmp_path / "out")
