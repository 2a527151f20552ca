"""Near texts are those that a comparison of each with each finds, and no others."""

import random

import pytest

from ktr.duplicates.near_texts import NearTexts, normalised, shingles, similarity

WORDS = normalised(
    "What color has the second ball that rolls from left to right before a cube falls over here?"
).split()
WRITTEN = (
    "What colour is it?", " what COLOUR is\nit", "“What colour — is it”?!", "ｗｈａｔ colour is it",
    "<video>What colour is it?",
)  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
def test_case_width_punctuation_and_markers_make_no_other_text(written: str):
    assert normalised(written) == "what colour is it"


def test_similarity_is_one_of_equal_texts_and_none_of_texts_without_a_shared_run():
    one, other = shingles("what is it"), shingles("where are those")
    assert similarity(one, one) == 1 and similarity(one, other) == similarity(other, one) == 0
    assert shingles("ab") == {"ab"} and shingles("") == {""}


def test_a_word_that_is_spelled_otherwise_costs_little_and_another_question_much():
    text = normalised("What colour is the second ball that rolls from left to right?")
    near = normalised("what color is the second ball, that rolls from left to right")
    assert NearTexts([text], 0.8).near(near) and not NearTexts([text], 0.8).near("how many balls roll")


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 1.0])
def test_it_finds_what_comparing_each_with_each_finds(threshold: float):
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(80)]
    changed = []
    for text in texts:
        words = text.split()
        for _ in range(draw.randint(0, 2)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        changed.append(" ".join(words))
    index = NearTexts(texts, threshold)
    for text in (*texts[:9], *changed, "", "quite another thing"):
        all_pairs = [(place, similarity(shingles(text), shingles(other))) for place, other in enumerate(texts)]
        assert index.near(text) == [(place, value) for place, value in all_pairs if value >= threshold]
