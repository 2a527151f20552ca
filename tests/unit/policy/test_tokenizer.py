"""A prompt leaves the opening of the thought to the policy, in training as in every folder that is saved."""

import shutil
from pathlib import Path

import pytest
from transformers import AutoProcessor

from ktr.policy.families import load_policy
from ktr.policy.tokenizer import load_tokenizer
from tests.tiny_families import encoder_of, question_about, save_family

HISTORY = "{% if messages[0].thought %}{{- '<think>\\n' + messages[0].thought + '\\n</think>' }}{% endif %}"
OPENED = {  # as a template may write it: in a literal with an escaped line's end, or as plain text
    "literal": r"{%- if add_generation_prompt %}{{- '<|im_start|> assistant\n<think>\n' }}{%- endif %}",
    "text": "{% if add_generation_prompt %}<|im_start|> assistant\n<think>\n{% endif %}",
    "in one case": "{% if add_generation_prompt %}<|im_start|> assistant\n"
    "{% if 1 %}<think>{% else %}<think></think>{% endif %}{% endif %}",
}


@pytest.fixture(scope="module")
def instruct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("qwen3_vl", tmp_path_factory.mktemp("families") / "instruct")


@pytest.fixture(params=OPENED)
def thinking(instruct: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same folder with a template that opens the thought, as that of Qwen3-VL-…-Thinking does."""
    folder = shutil.copytree(instruct, tmp_path / "thinking")
    before, mark, _ = (folder / "chat_template.jinja").read_text().rpartition("{% if add_generation_prompt %}")
    assert mark
    (folder / "chat_template.jinja").write_text(HISTORY + before + OPENED[request.param])
    return folder


def test_the_prompt_is_that_of_a_folder_that_opens_no_thought(instruct: Path, thinking: Path):
    question = question_about("2x64x64")
    ours, plain = (encoder_of(folder).encode(question).input_ids_P.tolist() for folder in (thinking, instruct))
    assert ours == plain


def test_a_saved_folder_is_asked_as_the_policy_was(instruct: Path, thinking: Path, tmp_path: Path):
    load_policy(thinking).save(tmp_path / "saved")
    messages = encoder_of(instruct).template.messages(question_about("2x64x64"))
    saved, plain = (
        AutoProcessor.from_pretrained(folder).apply_chat_template(messages, add_generation_prompt=True)
        for folder in (tmp_path / "saved", instruct)
    )
    assert saved == plain
    assert load_tokenizer(tmp_path / "saved").chat_template.startswith(HISTORY)  # thoughts that were had stay


def test_any_other_template_stays_as_it_is(instruct: Path):
    assert load_tokenizer(instruct).chat_template == (instruct / "chat_template.jinja").read_text()
