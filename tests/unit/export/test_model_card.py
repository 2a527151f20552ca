"""The card tells what the run's files hold, tolerates what they lack, and its snippet asks the policy as ktr does."""

import json
import re
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from transformers import AutoModelForImageTextToText, AutoProcessor

from ktr.config.composing import compose
from ktr.data.prompts import TYPE_SENTENCES, PromptTemplate
from ktr.export.chosen_weights import Weights
from ktr.export.exported_folder import export
from ktr.export.model_card import model_card
from ktr.export.origin import Origin
from ktr.export.training_settings import training_settings
from ktr.policy.families import load_policy, make_encoder
from ktr.policy.family import Policy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.shapes.tiny_model import COLD_START
from ktr.types import MediaFile, VideoQuestion
from tests.tiny_families import FAMILIES, RandomFrames, save_family

RESULT = {
    "benchmark": "mmvu",
    "identity": {"video": {"num_frames": 32, "max_pixels": 200704}, "rule": "lenient"},
    "summary": {
        "accuracy": 0.61, "accuracy_low": 0.57, "accuracy_high": 0.65, "n": 625,
        "by_subtask": {
            "Art": {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "n": 100},
            "Law": {"accuracy": None, "n": 0},
        },
    },
}  # fmt: skip


def card_of(run: Path, tmp_path: Path, *results: Any, **changes: Any) -> str:
    for number, result in enumerate(results):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "results.json").write_text(json.dumps(result))
    folders = [tmp_path / str(number) for number in range(len(results))]
    return (export(run, tmp_path / "out", results=folders, **changes) / "README.md").read_text()


def test_its_facts_are_those_of_the_run(run: Path, tmp_path: Path, policy_folder: Path):
    card = card_of(run, tmp_path, RESULT)
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "base_model": policy_folder.name, "library_name": "transformers", "pipeline_tag": "video-text-to-text",
        "tags": ["video", "reinforcement-learning", "ktr", "video-ktr"],
    }  # fmt: skip
    for fact in (
        f"from {policy_folder.name} by video_ktr, token signals: vet, 4 updates. Its weights are float32.",
        "16 frames of each video", "an area of 1,568 to 6,272 pixels", "temperature 0.7, top-p 1.0; at most 64 tokens",
        "| greedy | 25.0 | 50.0 | 40.0 to 60.0 | 80 |",
        "| mmvu | frames: 32, pixels at most: 200704, rule: lenient | 61.0 | 57.0 to 65.0 | 625 |",
        "| mmvu: Art | | 50.0 | 40.0 to 60.0 | 100 |",
        "| training data | ShapesDataset, 2,000 questions |", "| token signals | visual, entropy, temporal |",
        "| adapters | r: 4, lora_alpha: 8, target_modules: q_proj, v_proj, down_proj |", "| seed | 0 |",
        "| training took | 0:01:01 |", "| machine | 2 × H100, Some CPU, 4 cores |",
        "| versions | Python 3.11.9, torch 2.13.0 |", f"| commit of ktr | {'a' * 40} |",
    ):  # fmt: skip
        assert fact in card, fact
    assert "mmvu: Law" not in card and "\n\n\n\n" not in card


def test_of_a_run_that_went_on_it_tells_how_long_the_rest_took(run: Path, tmp_path: Path):
    resumed = shutil.copytree(run, tmp_path / "run")
    record = json.loads((run / "record.json").read_text()) | {"resumed": [{"step": 1}, {"step": 2}]}
    (resumed / "record.json").write_text(json.dumps(record))
    card = card_of(resumed, tmp_path)
    assert "| training took, from update 2 | 0:01:01 |\n" in card and "went on after updates | 1, 2 |" in card


def test_of_a_checkpoint_it_tells_the_validation_at_its_update(run: Path, tmp_path: Path):
    card = card_of(run, tmp_path, checkpoint="2")
    assert ", 2 updates." in card and "| greedy | 25.0 | 75.0 | 64.5 to 83.2 | 80 |" in card
    assert "training took" not in card


@pytest.mark.parametrize(
    ("result", "row"),
    [
        ({}, "| a benchmark |  | not measured | |  |"),
        (
            {"identity": {"benchmark": {"name": "own"}}, "summary": {"accuracy": None, "n": 0}},
            "| own |  | not measured",
        ),
        ({"benchmark": "own|x", "summary": {"accuracy": 0.5}}, "| own\\|x |  | 50.0 |  |  |"),
    ],
)
def test_results_that_lack_keys_are_told_as_far_as_they_go(run: Path, tmp_path: Path, result: Any, row: str):
    assert row in card_of(run, tmp_path, result)


def minimal_card(run: Path, tokenizer: Any, **changes: Any) -> str:
    config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    return model_card(run, {**config, **changes}, Weights(run, 7), Origin("start"), tokenizer, "float32")


def test_the_prompt_stands_there_word_for_word(run: Path, policy: Policy):
    reasoning: Any = OmegaConf.to_container(compose("evaluate", ["prompt=reasoning"]).prompt)
    card = minimal_card(run, policy.tokenizer, prompt=reasoning)
    words = instantiate(reasoning)
    question = VideoQuestion(
        "", "{question}", "multiple choice", "", (MediaFile(Path(), "video"),), ("{first option}", "{second option}")
    )
    text = policy.tokenizer.apply_chat_template(words.messages(question), tokenize=False, add_generation_prompt=True)
    assert f"````text\n{text}\n````" in card
    assert all(f"- {kind}: `{text}`" in card for kind, text in TYPE_SENTENCES.items() if kind != "multiple choice")


def test_a_prompt_of_a_class_from_elsewhere_is_quoted_and_not_built(run: Path, policy: Policy):
    card = minimal_card(run, policy.tokenizer, prompt={"_target_": "mine.Prompt", "words": "so ?"})
    assert "````yaml\n_target_: mine.Prompt\nwords: so ?\n````" in card


def test_a_supervised_run_is_called_one(run: Path, policy: Policy):
    supervised: Any = compose("train", ["+experiment=shapes_sft"])
    config: Any = OmegaConf.to_container(supervised, resolve=True)
    card = minimal_card(run, policy.tokenizer, **{key: config[key] for key in ("algorithm", "labels", "data")})
    assert "by sft, 7 updates" in card and "- sft\n- ktr\n- sft\n" in card
    assert "| form of demonstrations | <think> {reasoning}" in card


def snippet(card: str, folder: Path, **other: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (written,) = re.findall(r'folder = "(.*?)"', code)
    for old, new in {written: str(folder), **other}.items():
        assert old in code
        code = code.replace(old, new)
    return code


def test_its_snippet_gives_the_answer_of_ktr(tmp_path: Path):
    run = tmp_path / "run"
    config: Any = compose("train", ["name=run", "data.validation.num_questions=3"])
    policy = load_policy(COLD_START).eval()
    policy.save(run / "policy")
    OmegaConf.save(config, run / "config.yaml", resolve=True)
    folder = export(run, tmp_path / "out")
    encoder = instantiate(config.encoder)
    for question in instantiate(config.data.validation).questions:
        if question.options:
            continue
        prompt = encoder.encode(question)
        (group,) = TransformersEngine(policy).generate([prompt], SamplingParams(1, 64, temperature=0.0), [0])
        other = {"clip.mp4": str(question.media[0].path), "What happens first?": question.problem}
        with redirect_stdout(StringIO()) as printed:
            exec(snippet((folder / "README.md").read_text(), folder, **other), {})
        assert printed.getvalue().strip() == group.completions[0].text.removesuffix("<|im_end|>").strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_positions_of_its_snippet_are_those_of_training(family: str, run: Path, policy: Policy, tmp_path: Path):
    folder = save_family(family, tmp_path / "model")
    encoder = make_encoder(folder, PromptTemplate("", {}), RandomFrames(), max_prompt_tokens=900)
    prompt = encoder.encode(
        VideoQuestion("", "what color is first ?", "free-form", "", (MediaFile(Path("8x64x64"), "video"),))
    )
    code = snippet(minimal_card(run, policy.tokenizer), folder)
    lines = code[code.index("# Words behind") : code.index("ids = model.generate")]
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    ids = prompt.input_ids_P[None]
    inputs = {
        "input_ids": ids,
        "mm_token_type_ids": torch.where(ids == model.config.video_token_id, 2, 0),
        "attention_mask": torch.ones_like(ids),
        "video_grid_thw": torch.tensor([medium.grid_thw for medium in prompt.media]),
        "second_per_grid_ts": torch.tensor([prompt.media[0].seconds_per_patch]),
        "pixel_values_videos": prompt.pixels_NC,
    }
    names = {"model": model, "inputs": inputs, "processor": processor}
    exec(lines, names)
    assert torch.equal(names["positions"][:, 0], prompt.positions_3P)


def test_a_mixture_of_data_is_told_by_its_parts():
    config: Any = OmegaConf.to_container(compose("train", ["data=video_r1_holmes_16k"]), resolve=True)
    told = dict(training_settings(config))
    assert (
        told["training data"] == ("Video-R1-260k.json (video: 6600, image: 8765) and train_Video-Holmes.json")
        and told["held-out data"] == "test_Video-Holmes.json, 200 questions"
    )
