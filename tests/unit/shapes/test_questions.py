"""Laws of the world: every answer follows from the scene, and depends on order and motion exactly where it says so."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from ktr.shapes.example import KIND_SHARES, Mixture, draw_example
from ktr.shapes.observer import Observer
from ktr.shapes.questions import (
    APPEARANCE_KINDS,
    COMPOSED_KINDS,
    KINDS,
    LETTERS,
    MOTION_KINDS,
    ORDER_KINDS,
    SOLVERS,
    TEMPORAL_KINDS,
    ask,
    chance,
    targets,
)
from ktr.shapes.world import ORDINALS, Event, Scene, WorldSettings

WORLD = WorldSettings()
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def solve_by_hand(scene: Scene, kind: str, target: str) -> set[str]:
    """All answers that a plain reading of the question allows: a second solver, written from the question's words."""
    numbered = dict(zip(ORDINALS, scene, strict=False))
    pairs = list(pairwise(scene))
    readings = {
        "nth": lambda: {scene[-1].color} if target == "last" else {numbered[target].color},
        "after": lambda: {b.color for a, b in pairs if a.color == target},
        "before": lambda: {a.color for a, b in pairs if b.color == target},
        "two_hop": lambda: {b.direction for a, b in pairs if a.color == target},
        "direction": lambda: {e.direction for e in scene if e.color == target},
        "count": lambda: {str(len([e for e in scene if e.direction == target]))},
        "shape": lambda: {e.shape for e in scene if e.color == target},
        "color": lambda: {e.color for e in scene if e.shape == target},
    }
    return readings[kind]()


def questions(kind: str, n: int = 60, multiple_choice: bool = False):
    for seed in range(n):
        yield ask(kind, WORLD, multiple_choice, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multiple_choice", [False, True])
def test_the_answer_is_the_only_one_that_the_scene_allows(kind, multiple_choice):
    for scene, question in questions(kind, multiple_choice=multiple_choice):
        assert solve_by_hand(scene, kind, question.target) == {question.answer_word}
        assert question.target in question.text.split()


@pytest.mark.parametrize("kind", KINDS)
def test_options_hold_the_answer_once_and_counts_are_numbers(kind):
    letters = set()
    for _, question in questions(kind, multiple_choice=True):
        if kind == "count":
            assert question.problem_type == "numerical" and not question.options and question.answer.isdigit()
            continue
        assert question.problem_type == "multiple choice"
        assert [option.split(". ")[0] for option in question.options] == list(LETTERS)
        shown = [option.split(". ")[1] for option in question.options]
        assert len(set(shown)) == len(LETTERS) and question.target not in shown
        letters.add(question.answer)
    assert kind == "count" or letters == set(LETTERS)


@pytest.mark.parametrize("kind", ORDER_KINDS)
def test_another_order_of_the_events_changes_the_answer_of_an_order_question(kind):
    changed = 0
    for scene, question in questions(kind):
        answers = {
            frozenset(solve_by_hand(order, kind, question.target))
            for order in permutations(scene)
            if kind == "nth" or question.target in targets(order, kind)
        }
        changed += len(answers) > 1
    assert changed >= 50  # a scene may show the same direction twice


@pytest.mark.parametrize("kind", MOTION_KINDS)
def test_time_backwards_changes_the_answer_of_a_motion_question(kind):
    changed = 0
    for scene, question in questions(kind):
        backwards = tuple(Event(e.color, e.shape, OPPOSITE[e.direction]) for e in reversed(scene))
        changed += SOLVERS[kind](backwards, question.target) != question.answer
    assert changed == 60 if kind == "direction" else changed >= 30


@pytest.mark.parametrize("kind", APPEARANCE_KINDS)
def test_neither_order_nor_direction_of_time_changes_the_answer_of_an_appearance_question(kind):
    for scene, question in questions(kind):
        for order in permutations(scene):
            backwards = tuple(Event(e.color, e.shape, OPPOSITE[e.direction]) for e in order)
            assert SOLVERS[kind](order, question.target) == question.answer
            assert SOLVERS[kind](backwards, question.target) == question.answer


def test_the_kinds_are_sorted_into_temporal_and_appearance():
    assert set(KINDS) == set(TEMPORAL_KINDS) | set(APPEARANCE_KINDS) == set(SOLVERS) == set(KIND_SHARES)
    assert not set(TEMPORAL_KINDS) & set(APPEARANCE_KINDS)
    assert set(COMPOSED_KINDS) <= set(TEMPORAL_KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multiple_choice", [False, True])
def test_chance_is_what_a_blind_guess_of_the_right_sort_gets(kind, multiple_choice):
    """The best constant answer gets no more than sampling error above chance, so that the world has no shortcut."""
    asked = [question for _, question in questions(kind, 300, multiple_choice)]
    expected = float(np.mean([chance(q.kind, q.target, q.options) for q in asked]))
    best = max(np.mean([question.answer == word for question in asked]) for word in {q.answer for q in asked})
    assert abs(best - expected) < 0.1


def test_every_kind_and_problem_type_is_drawn_at_its_share():
    drawn = [draw_example((7, i), WORLD, Mixture(observer=Observer())).question for i in range(400)]
    for kind, share in KIND_SHARES.items():
        assert abs(np.mean([question.kind == kind for question in drawn]) - share) < 0.06
    assert {question.problem_type for question in drawn} == {"free-form", "numerical", "multiple choice"}


def test_shares_of_kinds_mean_the_same_in_any_order():
    backwards = Mixture(kind_shares=dict(reversed(KIND_SHARES.items())))
    assert all(draw_example((7, i), WORLD, backwards) == draw_example((7, i), WORLD, Mixture()) for i in range(20))


def test_shares_from_which_no_question_can_be_drawn_are_refused():
    for shares in ({"nth": 1.0, "befor": 0.5}, {"nth": -1.0, "after": 2.0}, {"nth": 0.0}, {}):
        with pytest.raises(ValueError, match="kind_shares"):
            Mixture(kind_shares=shares)
    with pytest.raises(ValueError, match="multiple_choice=3: it is a share"):
        Mixture(multiple_choice=3)


def test_settings_that_cannot_hold_their_events_are_refused():
    with pytest.raises(ValueError, match="raise num_frames to 16"):
        WorldSettings(num_frames=14)
    with pytest.raises(ValueError, match="max_events"):
        WorldSettings(num_frames=64, max_events=7)
