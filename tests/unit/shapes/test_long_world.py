"""Laws of the long world: its prose says nothing and is most of the text, and its choice brings what it needs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hydra.utils import instantiate

from ktr.config.composing import compose
from ktr.shapes.example import Example, draw_example
from ktr.shapes.ground_truth import label_words
from ktr.shapes.observer import PERFECT
from ktr.shapes.prose import GRAMMAR, prose
from ktr.shapes.questions import LETTERS, candidates
from ktr.shapes.reasoning import CLOSERS, HERE, Role
from ktr.shapes.tokenizer import build_tokenizer
from ktr.shapes.world import COLORS, DIRECTIONS, ORDINALS, SHAPES

KEY_WORDS = {
    *COLORS, *SHAPES, *DIRECTIONS, *ORDINALS, *LETTERS, *CLOSERS, *candidates("count", ""), HERE, "last",
}  # fmt: skip
PROSE_WORDS = {word for forms in GRAMMAR.values() for form in forms for word in form.split()} - set(GRAMMAR)


@pytest.fixture(scope="module")
def written():
    """World, mixture and 300 examples of the long cold start's training data."""
    data = compose("train", ["data=shapes_long_cot"]).data
    world, mixture = instantiate(data.train.world), instantiate(data.train.mixture)
    return world, mixture, [draw_example((7, i), world, mixture) for i in range(300)]


def completion(example: Example) -> list[str]:
    return [*example.process.split(), "<answer>", example.answer, "</answer>", "<|im_end|>"]


def test_prose_holds_no_key_word_and_no_word_of_its_own():
    assert not PROSE_WORDS & KEY_WORDS
    assert set(build_tokenizer().get_vocab()) >= PROSE_WORDS


def test_prose_is_varied():
    spoken = [prose(1, np.random.default_rng(seed)) for seed in range(500)]
    assert len(set(spoken)) > 0.9 * len(spoken)
    assert all(text.endswith((" .", " ?")) and sum(text.count(mark) for mark in ".?") == 1 for text in spoken)
    words = [word for text in spoken for word in text.split()]
    shares = np.unique_counts(words).counts / len(words)
    assert -(shares * np.log(shares)).sum() > 0.85 * math.log(len(PROSE_WORDS))


def test_most_of_a_completion_depends_on_nothing(written):
    world, mixture, examples = written
    roles = [role for example in examples for role in [*example.process_roles, *[Role.NOTHING] * 4]]
    assert roles.count(Role.NOTHING) / len(roles) > 0.7
    plain = replace(mixture, observer=replace(mixture.observer, prose=0))
    without = sum(len(completion(draw_example((7, i), world, plain))) for i in range(300))
    assert 0.55 < 1 - without / sum(len(completion(example)) for example in examples) < 0.75


def test_a_completion_fits_what_may_be_sampled_with_room_to_spare(written):
    """Also that of an observer who watches to the end, which reinforcement makes of the policy."""
    world, mixture, examples = written
    config = compose("train", ["data=shapes_long"])
    patient = replace(mixture, observer=replace(PERFECT, prose=mixture.observer.prose, filler=0.0))
    long = [draw_example((7, i), world, patient) for i in range(300)]
    lengths = np.array([len(completion(example)) for example in [*examples, *long]])
    assert np.mean(lengths > config.sampling.max_tokens) < 0.01
    assert config.encoder.max_prompt_tokens + config.sampling.max_tokens <= 1024


def test_a_seed_gives_the_same_text_again_and_prose_misleads_no_perfect_observer(written):
    world, mixture, examples = written
    again = [draw_example((7, i), world, mixture) for i in range(300)]
    assert [(e.question, e.trace) for e in again] == [(e.question, e.trace) for e in examples]
    perfect = replace(mixture, observer=replace(PERFECT, prose=1))
    for index in range(100):
        example = draw_example((7, index), world, perfect)
        assert example.question == examples[index].question
        assert example.answer == example.question.answer


def test_ground_truth_reads_the_roles_through_the_prose(written):
    for example in written[2]:
        question = example.question
        assert label_words(example.process, question.kind, question.target, question.options) == example.process_roles


@pytest.mark.parametrize("program", ["train", "evaluate", "attribute"])
def test_the_long_data_brings_frames_lengths_and_limits_and_the_command_line_wins(program):
    config = compose(program, ["data=shapes_long", "model=shapes_long"])
    assert config.model.path.endswith("cold_start_long")
    assert (config.video.num_frames, config.encoder.max_prompt_tokens, config.sampling.max_tokens) == (32, 864, 160)
    assert config.data.validation.world.num_frames == 32 and "-32f-" in config.name
    if "answers" in config:
        assert {answer.max_tokens for answer in config.answers.values()} == {160}
    given = compose(program, ["video.num_frames=48", "data=shapes_long", "sampling=shapes", "encoder=shapes"])
    assert (given.video.num_frames, given.data.validation.world.num_frames) == (48, 48)
    assert (given.encoder.max_prompt_tokens, given.sampling.max_tokens) == (960, 64)


def test_the_short_world_and_other_data_keep_their_own_frames_and_lengths():
    short = compose("train", [])
    assert (short.video.num_frames, short.encoder.max_prompt_tokens, short.sampling.max_tokens) == (16, 960, 64)
    assert (short.data.validation.world.min_events, short.data.validation.world.max_events) == (3, 4)
    assert compose("train", ["+experiment=paper"]).video.num_frames == 16
    assert compose("train", ["+experiment=paper", "video.num_frames=64"]).sampling.max_tokens == 768
