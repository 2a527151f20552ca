"""Laws of the reasoning: it is sound, every word has a role, and the roles can be read off the text alone."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ktr.shapes.example import Mixture, draw_example
from ktr.shapes.ground_truth import label_words
from ktr.shapes.observer import PERFECT, Observer
from ktr.shapes.questions import KINDS, TEMPORAL_KINDS
from ktr.shapes.reasoning import DIRECTED_KINDS, HERE, LOCATED_KINDS, Role
from ktr.shapes.world import ORDINALS, WorldSettings

WORLD = WorldSettings()
NOISY = Observer(hasty=0.6, overlook=0.2, misread=0.4, direct=0.2, filler=0.4)
TALKATIVE = replace(PERFECT, prose=1)


@cache
def examples(observer: Observer):
    mixture = Mixture(multiple_choice=0.3, observer=observer)
    return [draw_example((3, i), WORLD, mixture) for i in range(200)]


def test_a_perfect_observer_reaches_the_true_answer():
    for example in examples(PERFECT):
        assert example.trace and example.answer == example.question.answer


def test_a_careless_observer_is_sometimes_wrong_and_a_direct_answer_never():
    drawn = examples(NOISY)
    right = [example.answer == example.question.answer for example in drawn if example.trace]
    assert 0.3 < np.mean(right) < 0.8
    direct = [example for example in drawn if not example.trace]
    assert 0.1 < len(direct) / len(drawn) < 0.3
    assert all(example.answer == example.question.answer for example in direct)


def test_every_word_of_a_process_has_a_role():
    for example in examples(NOISY):
        words = example.process.split()
        assert words[0] == "<think>" and words[-1] == "</think>"
        assert len(example.process_roles) == len(words)


def test_ground_truth_reads_the_roles_of_a_larger_world_too():
    world = WorldSettings(num_frames=32, min_events=2, max_events=6)
    for index in range(200):
        example = draw_example((4, index), world, Mixture(multiple_choice=0.3, observer=NOISY))
        question = example.question
        assert label_words(example.process, question.kind, question.target, question.options) == example.process_roles


@pytest.mark.parametrize("observer", [PERFECT, NOISY], ids=["perfect", "noisy"])
def test_ground_truth_reads_the_generators_roles_off_the_text(observer):
    for example in examples(observer):
        question = example.question
        text = f"{example.process} <answer> {example.answer} </answer>"
        labels = label_words(text, question.kind, question.target, question.options)
        # The answer copies what the reasoning found; without reasoning it must come from the video.
        seen = Role.ORDER_MOTION if question.kind in TEMPORAL_KINDS else Role.APPEARANCE
        answer = Role.DERIVED if example.trace else seen
        expected = [*example.process_roles, Role.NOTHING, answer, Role.NOTHING]
        assert labels == expected, text


def test_ground_truth_labels_any_text_word_by_word():
    for text in ("", "red", "</think> <think>", "<think> so so red first A B 2", "<answer> red </answer> x </think>"):
        for kind in KINDS:
            assert len(label_words(text, kind, "red")) == len(text.split())


def test_only_temporal_questions_have_words_of_order_and_only_the_others_words_of_appearance():
    for example in examples(PERFECT):
        visual = {role for role in example.process_roles if role in (Role.APPEARANCE, Role.ORDER_MOTION)}
        assert visual == {Role.ORDER_MOTION if example.question.kind in TEMPORAL_KINDS else Role.APPEARANCE}


@pytest.mark.parametrize("observer", [PERFECT, TALKATIVE], ids=["perfect", "talkative"])
def test_each_step_copies_from_a_key_that_is_unique_before_it(observer):
    """Each ordinal describes one event, each colour stands once and "here" at most once, so a copy has one source."""
    for example in examples(observer):
        texts = [word.text for word in example.trace]
        roles = [word.role for word in example.trace]
        if example.question.kind in TEMPORAL_KINDS:
            end = next(i for i, word in enumerate(texts) if word in ("so", "thus"))
            listed = [w for w, r in zip(texts[:end], roles[:end], strict=True) if r == Role.ORDER_MOTION]
            directed = example.question.kind in DIRECTED_KINDS
            assert listed == [w for e in example.scene for w in ((e.color, e.direction) if directed else (e.color,))]
            for event in example.scene:
                assert texts[:end].count(event.color) == 1
            assert texts[:end].count(HERE) == (example.question.kind in LOCATED_KINDS)
            described = [texts[i + 1] for i in range(end) if texts[i] in ORDINALS and texts[i - 1] != HERE]
            assert described == [event.color for event in example.scene]


def test_the_prose_varies():
    assert len({example.process for example in examples(PERFECT) if example.question.kind == "shape"}) > 15
