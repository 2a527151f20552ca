"""Tags, the answer and the end are told apart from the words of the reasoning."""

from dataclasses import replace

import pytest
import torch

from ktr.algorithm.reasoning_tokens import ReasoningTokens
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.errors import ConfigError, MissingData
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.shapes.oracle_tokens import OracleTokens
from ktr.shapes.token_kinds import KINDS, token_kinds
from ktr.types import Completion, RolloutGroup, TokenScores, VideoQuestion
from tests.tiny_policy import random_prompt


def rollout(policy: QwenVLPolicy, text: str, extra: dict) -> RolloutGroup:
    prompt = random_prompt(policy, 0)
    question = VideoQuestion("q", "?", "free-form", "red", prompt.question.media, category="nth", extra=extra)
    num = len(text.split()) + 1
    completion = Completion(torch.zeros(num, dtype=torch.long), torch.zeros(num), text, "stop", 0)
    return RolloutGroup(replace(prompt, question=question), (completion,))


def kinds(policy: QwenVLPolicy, text: str, extra: dict) -> list[list[str]] | None:
    return token_kinds(rollout(policy, text, extra))


def test_every_token_has_its_kind(policy: QwenVLPolicy):
    text = "<think> ok first red . so first red . </think> <answer> red </answer>"
    thought = ["nothing", "nothing", "order_motion", "nothing", "decision", "derived", "derived", "nothing"]
    assert kinds(policy, text, {"target": "first"}) == [["tags", *thought, "tags", "tags", "answer", "tags", "end"]]


def test_the_oracle_weighs_the_tokens_of_its_kinds_alone(policy: QwenVLPolicy):
    group = rollout(policy, "<think> ok first red . </think> <answer> red </answer>", {"target": "first"})
    scores = TokenScores(torch.zeros(1, 10), torch.zeros(1, 10))
    weights = OracleTokens(["tags", "order_motion"])(GroupScores.of(group, scores, {}, [0], 0))
    assert weights.weights_GT.tolist() == [[1, 0, 0, 1, 0, 1, 1, 0, 1, 0]]
    everything = OracleTokens(KINDS)(GroupScores.of(group, scores, {}, [0], 0))
    assert everything.weights_GT.all()


def test_reasoning_tokens_are_all_but_those_of_the_kind_answer(policy: QwenVLPolicy):
    texts = [
        "<think> ok first red . </think> <answer> red </answer>", "<think> first red </think> <answer> red red",
        "<answer> red </answer>", "<think> first red . </think>", "<answer> </answer> red",
    ]  # fmt: skip
    for text in texts:
        ids = torch.tensor([*policy.tokenizer.encode(text, add_special_tokens=False), policy.tokenizer.eos_token_id])
        group = rollout(policy, text, {"target": "first"})
        group = replace(group, completions=(replace(group.completions[0], token_ids_T=ids),))
        of_tokens = TokenScores(torch.zeros(1, len(ids)), torch.zeros(1, len(ids)))
        scores = GroupScores.of(group, of_tokens, {}, policy.eos_token_ids, 0)
        every_other = OracleTokens([kind for kind in KINDS if kind != "answer"])(scores)
        reasoning = ReasoningTokens(policy.tokenizer, {}, TopRatio())(scores)
        assert torch.equal(reasoning.weights_GT, every_other.weights_GT), text


def test_an_oracle_of_no_such_kind_or_of_another_data_set_is_refused(policy: QwenVLPolicy):
    with pytest.raises(ConfigError, match=r"weighting\.kinds: there is no verbs; choose from appearance, "):
        OracleTokens(["verbs"])
    scores = TokenScores(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(MissingData, match=r"weighting=oracle_tokens: the kinds of the words of q are not known"):
        OracleTokens(["tags"])(GroupScores.of(rollout(policy, "<think> </think>", {}), scores, {}, [0], 0))


def test_kinds_of_another_data_set_are_not_known(policy: QwenVLPolicy):
    assert kinds(policy, "<think> </think>", {}) is None
