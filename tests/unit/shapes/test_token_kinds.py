"""Tags, the answer and the end are told apart from the words of the reasoning."""

import torch

from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.shapes.token_kinds import token_kinds
from ktr.types import Completion, RolloutGroup, VideoQuestion
from tests.tiny_policy import random_prompt


def kinds(policy: QwenVLPolicy, text: str, extra: dict) -> list[list[str]] | None:
    prompt = random_prompt(policy, 0)
    question = VideoQuestion("q", "?", "free-form", "red", prompt.question.media, category="nth", extra=extra)
    num = len(text.split()) + 1
    completion = Completion(torch.zeros(num, dtype=torch.long), torch.zeros(num), text, "stop", 0)
    return token_kinds(RolloutGroup(prompt.__class__(**{**vars(prompt), "question": question}), (completion,)))


def test_every_token_has_its_kind(policy: QwenVLPolicy):
    text = "<think> ok first red . so first red . </think> <answer> red </answer>"
    thought = ["nothing", "nothing", "order_motion", "nothing", "decision", "derived", "derived", "nothing"]
    assert kinds(policy, text, {"target": "first"}) == [["tags", *thought, "tags", "tags", "answer", "tags", "end"]]


def test_kinds_of_another_data_set_are_not_known(policy: QwenVLPolicy):
    assert kinds(policy, "<think> </think>", {}) is None
