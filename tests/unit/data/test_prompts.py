"""The prompt holds the medium first, then exactly the parts that are asked for."""

from pathlib import Path

import pytest

from ktr.data.prompts import INSTRUCTION, TYPE_SENTENCES, PromptTemplate
from ktr.errors import ConfigError
from ktr.types import PROBLEM_TYPES, MediaFile, VideoQuestion

QUESTION = VideoQuestion(
    "1", "which one ?", "multiple choice", "A", (MediaFile(Path("a.mp4")),), options=("A. red", "B. blue")
)


def test_options_stand_one_on_a_line_and_the_medium_before_the_text():
    (message,) = PromptTemplate(instruction="", type_sentences={}).messages(QUESTION)
    assert message["role"] == "user"
    assert message["content"] == [
        {"type": "video"},
        {"type": "text", "text": "which one ?\nOptions:\nA. red\nB. blue"},
    ]


def test_by_default_instruction_and_the_sentence_of_the_type_follow():
    text = PromptTemplate().messages(QUESTION)[0]["content"][1]["text"]
    assert text.endswith(f"{INSTRUCTION}\n{TYPE_SENTENCES['multiple choice']}")
    assert set(TYPE_SENTENCES) == set(PROBLEM_TYPES)


def test_system_message_and_image():
    question = VideoQuestion("1", "what ?", "OCR", "x", (MediaFile(Path("a.png"), "image"),))
    system, user = PromptTemplate(system="be brief").messages(question)
    assert system == {"role": "system", "content": "be brief"}
    assert user["content"][0] == {"type": "image"}


def test_a_sentence_for_no_problem_type_is_refused():
    with pytest.raises(ConfigError, match="numeric"):
        PromptTemplate(type_sentences={"numeric": "One number."})
