"""Laws of the two auxiliary losses: what the features should say, and what the text alone settles."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.shapes.alignment import AlignmentLoss, patch_words
from ktr.shapes.drill import CopyingDrill, drill
from ktr.shapes.reasoning import HERE
from ktr.shapes.tiny_model import save_untrained
from ktr.types import MediaFile, Medium, PromptInputs, VideoQuestion

SCENE = [
    {"color": "red", "shape": "circle", "direction": "left"},
    {"color": "blue", "shape": "cross", "direction": "up"},
    {"color": "white", "shape": "cross", "direction": "left"},
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    save_untrained(folder)
    return QwenVLPolicy(folder)


def prompt(id: str = "1") -> PromptInputs:
    question = VideoQuestion(id, "?", "free-form", "red", (MediaFile(Path("a.mp4")),), extra={"scene": SCENE})
    return PromptInputs(
        question, torch.zeros(1).long(), torch.zeros(3, 1).long(), torch.zeros(1, 1), (Medium("video", (8, 4, 4)),)
    )


def test_a_patch_is_aligned_with_what_it_shows():
    assert patch_words(SCENE[:2], num_patches=6, max_events=3) == [
        ("red", "circle", "right"),
        ("red", "circle", "left"),
        ("blue", "cross", "down"),
        ("blue", "cross", "up"),
        ("nothing", "nothing", "nothing"),
        ("nothing", "nothing", "nothing"),
    ]


def test_features_that_name_their_patch_have_less_loss_than_those_that_name_another(policy):
    embeddings = F.normalize(policy.model.lm_head.weight.detach(), dim=-1)
    words = patch_words(SCENE, num_patches=8, max_events=4)
    ids = torch.tensor([policy.tokenizer.convert_tokens_to_ids(list(triple)) for triple in words])
    features = embeddings[ids].sum(1).repeat_interleave(4, 0)
    loss = AlignmentLoss(max_events=4)
    with torch.no_grad():
        right = loss(policy, [prompt()], [features])
        wrong = loss(policy, [prompt()], [features.roll(8, 0)])
        twice = loss(policy, [prompt()] * 2, [features, features])
        half = AlignmentLoss(max_events=4, weight=0.5)(policy, [prompt()], [features])
    assert right < wrong
    torch.testing.assert_close(twice, right)
    torch.testing.assert_close(half, right / 2)


def test_a_drill_asks_only_for_what_its_text_settles():
    with_options = 0
    for seed in range(40):
        text, settled = drill(SCENE, num_steps=10, rng=np.random.default_rng(seed))
        assert len(text) == len(settled)
        target, steps = text[2], " ".join(text).split(" so ")
        listed = steps.pop(0).split(" ? ")[1]
        letters = {}
        if listed.startswith("Options"):
            options = listed.split()[2:10]
            letters = {word: letter[0] for letter, word in zip(options[::2], options[1::2], strict=True)}
            with_options += 1
        for ordinal, event in zip(("first", "second", "third"), SCENE, strict=True):
            known = {"here": [], ordinal: [event["color"], letters.get(event["color"], event["direction"])]}
            if event["color"] == target:
                assert f"{ordinal} {target} {HERE} {ordinal}" in listed
                known["here"] = [ordinal]
            for key, *copied in (step.split() for step in steps):
                assert key not in known or (key == "here" and event["color"] != target) or copied == known[key]
        assert len(steps) == 10
    assert 10 < with_options < 30


def test_the_drill_of_a_question_is_always_the_same_and_needs_no_video(policy):
    loss = CopyingDrill(num_drills=2, num_steps=6)
    features = [torch.randn(32, 128)] * 3
    prompts = [prompt("1"), prompt("2"), prompt("3")]
    first = loss(policy, prompts, features)
    torch.testing.assert_close(first, loss(policy, prompts, [torch.zeros(32, 128)] * 3))
    torch.testing.assert_close(first, loss(policy, prompts[:2], features[:2]))
    assert not torch.isclose(first, loss(policy, prompts[::-1], features))
    first.backward()
    assert policy.model.lm_head.weight.grad is not None and policy.model.lm_head.weight.grad.any()
