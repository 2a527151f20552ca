"""Laws of supervised training's parts: what is imitated, how words are weighted, when the video is hidden."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ktr.attribution.views import Factual, MaskedVideo
from ktr.errors import DemonstrationTooLong, MalformedRow
from ktr.shapes.example import Mixture, draw_example
from ktr.shapes.observer import Observer
from ktr.shapes.tokenizer import build_tokenizer
from ktr.shapes.world import WorldSettings
from ktr.training.demonstrations import Demonstrations
from ktr.training.view_dropout import ViewDropout
from ktr.types import MediaFile, Medium, PromptInputs, VideoQuestion

SPACED = "<think> {reasoning} </think> <answer> {answer} </answer>"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def question(reasoning: str | None, answer: str, **extra) -> VideoQuestion:
    return VideoQuestion(
        "7", "which ?", "free-form", answer, (MediaFile(Path("a.mp4")),), reasoning=reasoning, extra=extra
    )


def prompt(asked: VideoQuestion) -> PromptInputs:
    return PromptInputs(
        asked, torch.zeros(1).long(), torch.zeros(3, 1).long(), torch.zeros(4, 1), (Medium("video", (1, 2, 2)),)
    )


def test_the_completion_is_reasoning_answer_and_end(tokenizer):
    group = Demonstrations(SPACED).group(prompt(question("green circle .", "circle")), tokenizer)
    (completion,) = group.completions
    assert tokenizer.decode(completion.token_ids_T) == (
        "<think> green circle . </think> <answer> circle </answer> <|im_end|>"
    )
    assert bool(group.completion_mask_GT.all())


def test_no_reasoning_is_an_empty_thought(tokenizer):
    (completion,) = Demonstrations(SPACED).group(prompt(question(None, "circle")), tokenizer).completions
    assert completion.text.split() == ["<think>", "</think>", "<answer>", "circle", "</answer>"]


def test_each_token_has_the_weight_of_its_word(tokenizer):
    roles = ["nothing", "order_motion", "appearance", "nothing", "nothing"]
    asked = question("green circle .", "circle", process_roles=roles)
    weights = Demonstrations(SPACED, {"appearance": 3.0, "answer": 5.0}).weights(asked, tokenizer)
    assert weights.tolist() == [1, 1, 3, 1, 1, 1, 5, 1, 1]


def test_a_token_that_begins_with_the_space_before_its_word_has_the_weight_of_the_word():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)  # as Qwen's
    asked = question("green circle", "circle", process_roles=["nothing", "order_motion", "appearance", "nothing"])
    demonstrations = Demonstrations(SPACED, {"order_motion": 2.0, "appearance": 3.0, "answer": 5.0})
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, min_frequency=1, show_progress=False)
    bpe.train_from_iterator([demonstrations.text(asked)], trainer)
    encoded = bpe.encode(demonstrations.text(asked))
    assert "Ġgreen" in encoded.tokens
    weights = demonstrations.weights(asked, PreTrainedTokenizerFast(tokenizer_object=bpe)).tolist()
    by_token = list(zip(encoded.tokens, weights, strict=False))
    assert [weight for token, weight in by_token if token in ("Ġgreen", "Ġcircle")] == [2, 3, 5]
    assert all(weight == 1 for token, weight in by_token if token not in ("Ġgreen", "Ġcircle"))


def test_without_role_weights_every_token_counts_alike_and_no_roles_are_needed(tokenizer):
    demonstrations = Demonstrations()
    asked = question("green circle .", "circle")
    weights = demonstrations.weights(asked, tokenizer)
    (completion,) = demonstrations.group(prompt(asked), tokenizer).completions
    assert weights.tolist() == [1.0] * len(completion.token_ids_T)


@pytest.mark.parametrize("form", ["{thought} {answer}", "{}", "{", "{answer.text}"])
def test_a_form_with_other_braces_is_refused(form: str):
    with pytest.raises(ValueError, match="no other braces"):
        Demonstrations(form)


def test_words_have_weights_only_where_tags_stand_apart():
    with pytest.raises(ValueError, match="set its tags apart by spaces"):
        Demonstrations(role_weights={"answer": 3.0})


def test_roles_that_do_not_fit_the_words_are_refused(tokenizer):
    asked = question("green circle .", "circle", process_roles=["nothing"])
    with pytest.raises(MalformedRow, match="row 7: process_roles names 1 roles for 5 words"):
        Demonstrations(SPACED, {"answer": 3.0}).weights(asked, tokenizer)


def test_every_trace_of_the_world_can_be_weighted(tokenizer):
    demonstrations = Demonstrations(SPACED, {"order_motion": 3.0, "answer": 3.0})
    for index in range(60):
        example = draw_example((1, index), WorldSettings(), Mixture(observer=Observer()))
        asked = question(
            " ".join(word.text for word in example.trace), example.answer, process_roles=list(example.process_roles)
        )
        weights = demonstrations.weights(asked, tokenizer)
        heavy = 1 + sum(role == "order_motion" for role in example.process_roles)
        assert int((weights == 3).sum()) == heavy


def test_views_are_dropped_at_their_rate_and_evenly():
    views = (MaskedVideo("zero"), MaskedVideo("drop"))
    dropout = ViewDropout(views, rate=0.4)
    generator = torch.Generator().manual_seed(0)
    drawn = [dropout.draw(generator) for _ in range(2000)]
    assert abs(drawn.count(Factual()) / 2000 - 0.6) < 0.04
    for view in views:
        assert abs(drawn.count(view) / 2000 - 0.2) < 0.04
    assert ViewDropout(views, 0.0).draw(generator) == Factual()
    with pytest.raises(ValueError, match="rate"):
        ViewDropout(views, 1.5)


def test_a_demonstration_that_leaves_the_positions_of_the_model_is_refused(tokenizer):
    asked = prompt(question("green circle .", "circle"))
    size = len(Demonstrations(SPACED).weights(asked.question, tokenizer))
    Demonstrations(SPACED).check(asked, tokenizer, max_positions=1 + size)
    with pytest.raises(DemonstrationTooLong, match=f"row 7: its demonstration has {size} tokens"):
        Demonstrations(SPACED).check(asked, tokenizer, max_positions=size)


@pytest.mark.parametrize("roles", [5, None, "nothing", [["nothing"]], {"a": "b"}])
def test_roles_that_are_no_list_of_texts_are_refused(roles, tokenizer):
    with pytest.raises(MalformedRow, match="process_roles names 0 roles"):
        Demonstrations(SPACED, {"answer": 3.0}).weights(question("green .", "circle", process_roles=roles), tokenizer)
