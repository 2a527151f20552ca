"""Question-answer inversion: what is inverted, what is left, and what decides."""

from dataclasses import replace
from pathlib import Path

import pytest

from ktr.data.datamodule import QuestionDataModule
from ktr.data.dataset import QuestionDataset
from ktr.data.inversion import Inversion, inverted, negated
from ktr.errors import ConfigError
from ktr.rewards.soft_choice import options_in
from ktr.types import MediaFile, VideoQuestion

OPTIONS = ("A. it rolls", "B. it stops", "C. it falls", "(D) it turns")


def question(id: str = "1", problem: str = "What did the ball do?", answer: str = "B", **changes) -> VideoQuestion:
    plain = VideoQuestion(
        id, problem, "multiple choice", answer, (MediaFile(Path("a.mp4")),), options=OPTIONS, reasoning="it stood."
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("problem", "negative"),
    [
        ("What did the ball do?", "What didn't the ball do?"),
        ("what color is the first thing ?", "what color isn't the first thing ?"),
        ("If the cube is gone, what will happen?", "If the cube is gone, what won't happen?"),
        ("When it is gone, which of these would happen?", "When it is gone, which of these wouldn't happen?"),
        ("When did he, who is tall, run?", "When didn't he, who is tall, run?"),
        ("The ball is red. What does it hit?", "The ball is red. What doesn't it hit?"),
    ],
)
def test_the_verb_of_the_last_sentence_is_negated(problem, negative):
    assert negated(problem) == negative


@pytest.mark.parametrize(
    "problem",
    [
        "Which object enters the scene?",  # no auxiliary verb
        "What didn't the ball do?",
        "Which of these will not happen?",
        "Is the ball red?",  # "Isn't the ball red?" has the same answer
        "How many balls are there?",
        "Why did it stop?",
        "Which of the balls that are red did it hit?",  # whose verb?
        "The ball is red. Choose one.",
    ],
)
def test_a_question_whose_verb_cannot_be_told_stays(problem):
    assert negated(problem) is None and Inversion(1.0)(question(problem=problem)) == question(problem=problem)


def test_the_wrong_options_become_the_answer():
    assert inverted(question(answer="B")) == question(
        problem="What didn't the ball do?", answer="A,C,D", reasoning=None
    )
    assert inverted(question(answer="D, A")).answer == "B,C"


@pytest.mark.parametrize(
    "other",
    [
        question(answer="A,B,C,D"),  # nothing is wrong
        question(problem_type="free-form", options=(), answer="it stops"),
    ],
    ids=["all right", "no options"],
)
def test_what_has_no_wrong_option_stays(other):
    assert inverted(other) is None and Inversion(1.0)(other) == other


def test_of_the_options_each_is_right_either_before_or_after():
    for answer in ("A", "B,D", "A,B,C"):
        before, after = options_in(answer), options_in(inverted(question(answer=answer)).answer)
        assert before | after == {"A", "B", "C", "D"} and not before & after


def test_seed_and_id_alone_decide():
    questions = [question(str(i)) for i in range(400)]
    once, again = ([Inversion(0.5, seed=3)(q).answer for q in order] for order in (questions, questions[::-1]))
    other = [Inversion(0.5, seed=4)(q).answer for q in questions]
    assert once == again[::-1] != other
    assert 160 < once.count("A,C,D") < 240


def test_a_larger_probability_inverts_more_of_the_same():
    questions = [question(str(i)) for i in range(100)]
    chosen = [{q.id for q in questions if Inversion(p)(q) != q} for p in (0.0, 0.3, 0.7, 1.0)]
    assert chosen[0] == set() and chosen[1] < chosen[2] < chosen[3] == {q.id for q in questions}
    with pytest.raises(ConfigError, match=r"probability=1\.5"):
        Inversion(1.5)


class Questions(QuestionDataset):
    def __init__(self):
        self.questions, self.skips = [question(str(i)) for i in range(4)], []


def test_only_training_questions_are_transformed(make_encode):
    data = QuestionDataModule(Questions(), Questions(), make_encode(), 2, 0, 2, transform=Inversion(1.0))
    assert {q.answer for q in data.train_dataloader().questions} == {"A,C,D"}
    assert {q.answer for q in data.val_dataloader().questions} == {"B"}
