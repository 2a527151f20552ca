"""Laws of the tiny policy: an ordinary folder, under a million parameters, that knows every word of its world."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ktr.policy  # noqa: F401

from transformers import AutoModelForImageTextToText, AutoProcessor  # isort: skip

from ktr.rewards.answers import extract_answer
from ktr.shapes.example import Mixture, draw_example
from ktr.shapes.observer import Observer
from ktr.shapes.tiny_model import COLD_START, COLD_START_LONG, build_model, save_untrained
from ktr.shapes.tokenizer import TAGS, UNKNOWN, build_tokenizer
from ktr.shapes.world import WorldSettings

WORLD = WorldSettings()
MIXTURE = Mixture(multiple_choice=0.3, observer=Observer(filler=0.5))
CARELESS = Mixture(kind_shares={"count": 1.0}, observer=Observer(misread=0.9, hasty=0.0))
LARGE_WORLD = WorldSettings(num_frames=32, max_events=6)
EXAMPLES = [draw_example((5, i), WORLD, MIXTURE) for i in range(150)]
EXAMPLES += [draw_example((6, i), LARGE_WORLD, CARELESS) for i in range(100)]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def completion_text(example) -> str:
    return f"{example.process} <answer> {example.answer} </answer>"


def test_no_word_of_the_world_is_unknown_and_each_is_one_token(tokenizer):
    for example in EXAMPLES:
        question = example.question
        prompt = "\n".join([question.text, "Options:", *question.options])
        for text in (prompt, completion_text(example)):
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in ids, text
        assert len(tokenizer.encode(completion_text(example))) == len(completion_text(example).split())


def test_decoding_gives_the_text_back_with_the_format_and_the_answer_in_it(tokenizer):
    for example in EXAMPLES:
        ids = tokenizer.encode(completion_text(example) + "<|im_end|>")
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert text.strip() == completion_text(example)
        assert extract_answer(text, "strict") == example.answer


def test_the_tags_are_one_token_each_and_not_special(tokenizer):
    for tag in TAGS:
        assert len(tokenizer.encode(tag)) == 1
        assert tokenizer.decode(tokenizer.encode(tag), skip_special_tokens=True).strip() == tag


def test_an_option_letter_stands_right_before_its_word(tokenizer):
    assert tokenizer.tokenize("Options:\nA. red\nB. blue") == ["Options", ":", "A.", "red", "B.", "blue"]


def test_the_model_is_small_and_its_heads_are_what_vllm_runs():
    model = build_model(0)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    text = model.config.text_config
    assert text.hidden_size // text.num_attention_heads == 32
    assert model.config.vision_config.hidden_size // model.config.vision_config.num_heads == 32


def test_the_seed_alone_decides_the_weights():
    first, again, other = (build_model(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def folders(tmp_path: Path) -> list[Path]:
    save_untrained(tmp_path)
    return [tmp_path, COLD_START, COLD_START_LONG]


def test_the_folders_load_with_from_pretrained_and_read_a_video(tmp_path):
    for folder in folders(tmp_path):
        model = AutoModelForImageTextToText.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder)
        assert model.config.text_config.vocab_size == len(processor.tokenizer) == len(build_tokenizer())
        example = EXAMPLES[0]
        content = [{"type": "video"}, {"type": "text", "text": example.question.text}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        video = torch.from_numpy(example.frames(WORLD)).permute(0, 3, 1, 2)
        inputs = processor(text=[text], videos=[video], return_tensors="pt", do_sample_frames=False)
        assert inputs["video_grid_thw"].tolist() == [[8, 4, 4]]
        assert (inputs["input_ids"] == model.config.video_token_id).sum() == 32
        assert np.isfinite(model(**inputs).logits.detach().numpy()).all()


@pytest.mark.parametrize("folder", [COLD_START, COLD_START_LONG], ids=["short", "long"])
def test_a_cold_start_is_small_and_of_this_vocabulary(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * 1024**2
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".safetensors"}
    assert AutoProcessor.from_pretrained(folder).tokenizer.get_vocab() == build_tokenizer().get_vocab()
