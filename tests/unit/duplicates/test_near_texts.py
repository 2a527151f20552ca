"""Near texts are those that a comparison of each with each finds, and no others."""

import random

import pytest

from ktr.duplicates.near_texts import NearTexts, normalised, shingles

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


def test_options_are_one_set_whatever_their_labels_and_order():
    one = normalised("Which of them is it?", ["A. a red ball", "B. a blue cube"])
    assert one == normalised("which of them is it", ["(A) A blue cube", "(B) a red ball!"])
    assert NearTexts([one], 0.8).near(normalised("Which of them is it?", ["A. nobody", "B. somebody"])) == []
    assert NearTexts([one], 0.8).near(normalised("Which of them is it?")) == []


def test_shingles_stay_within_a_line():
    assert shingles("what is\nab") == {"what ", "hat i", "at is", "ab"} and shingles("\n") == frozenset()


def test_a_word_that_is_spelled_otherwise_costs_little_and_another_question_much():
    text = normalised("What colour is the second ball that rolls from left to right?")
    near = normalised("what color is the second ball, that rolls from left to right")
    assert NearTexts([text], 0.8).near(near) and not NearTexts([text], 0.8).near("how many balls roll")


def similarity(one: str, other: str) -> float:
    own, theirs = shingles(one), shingles(other)
    return len(own & theirs) / len(own | theirs) if own or theirs else 0.0


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
        all_pairs = [(place, similarity(text, other)) for place, other in enumerate(texts)]
        assert index.near(text) == [(place, value) for place, value in all_pairs if value >= threshold]
