"""The engine samples from the policy that the scorer scores, each question as if it were alone."""

import json
import shutil

import pytest
import torch

from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import Factual
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.scoring.scorer import GroupScorer
from ktr.types import TokenScores
from tests.tiny_policy import random_prompt

SAMPLING = SamplingParams(num_completions=4, max_tokens=24)


@pytest.fixture(scope="module")
def prompts(policy: QwenVLPolicy):
    return [random_prompt(policy, i) for i in range(5)]


@pytest.fixture(scope="module")
def groups(policy, prompts):
    return TransformersEngine(policy).generate(prompts, SAMPLING, seeds=range(5))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logps_of_sampled_tokens_are_those_that_the_scorer_computes(policy, prompts, temperature):
    sampling = SamplingParams(4, 24, temperature=temperature)
    groups = TransformersEngine(policy).generate(prompts, sampling, seeds=range(5))
    features = policy.encode_video(prompts)
    scores = GroupScorer(temperature).score(policy, groups, features, Factual(), seeds=[0] * 5)
    for group, score in zip(groups, scores, strict=True):
        torch.testing.assert_close(score.logps_GT, group.engine_logps_GT, atol=1e-4, rtol=0)


def test_a_prompt_and_its_seed_fix_its_completions_whatever_the_batch(policy, prompts, groups):
    engine = TransformersEngine(policy, max_rows=4)
    for i in (3, 0):
        (alone,) = engine.generate([prompts[i]], SAMPLING, seeds=[i])
        assert [c.token_ids_T.tolist() for c in alone.completions] == [
            c.token_ids_T.tolist() for c in groups[i].completions
        ]


def test_other_seeds_give_other_completions(policy, prompts, groups):
    again = TransformersEngine(policy).generate(prompts, SAMPLING, seeds=range(10, 15))
    assert all(
        not torch.equal(a.completion_ids_GT[:, :5], b.completion_ids_GT[:, :5])
        for a, b in zip(groups, again, strict=True)
    )


def test_vision_ids_are_never_sampled_and_nothing_follows_the_end(policy, groups):
    banned = set(policy.banned_ids.tolist())
    for group in groups:
        for completion in group.completions:
            ids = completion.token_ids_T.tolist()
            assert not banned & set(ids)
            assert not set(ids[:-1]) & set(policy.eos_token_ids)
            assert (completion.finish_reason == "stop") == (ids[-1] in policy.eos_token_ids)
            assert len(ids) <= SAMPLING.max_tokens


def test_every_end_of_the_generation_config_is_an_end(policy_folder, tmp_path, prompts, groups):
    """Such as <|endoftext|> beside <|im_end|>: sampling stops there, and the token is EOS to masks and selections."""
    words = torch.cat([completion.token_ids_T[1:-1] for group in groups for completion in group.completions])
    other = int(words.mode().values)
    folder = shutil.copytree(policy_folder, tmp_path / "two_ends")
    config = json.loads((folder / "generation_config.json").read_text())
    ends = {"eos_token_id": [other, config["eos_token_id"]]}
    (folder / "generation_config.json").write_text(json.dumps(config | ends))
    policy = QwenVLPolicy(folder).eval()
    assert policy.eos_token_ids == (config["eos_token_id"], other)
    ended_by = set()
    for group in TransformersEngine(policy).generate(prompts, SAMPLING, seeds=range(5)):
        scores = GroupScores.of(group, TokenScores(group.engine_logps_GT), {}, policy.eos_token_ids, 0)
        for completion, eos_T in zip(group.completions, scores.eos_GT, strict=True):
            ids, stopped = completion.token_ids_T.tolist(), completion.finish_reason == "stop"
            ended_by.add(ids[-1] if stopped else None)
            assert not set(ids[:-1]) & set(policy.eos_token_ids)
            assert eos_T.nonzero().flatten().tolist() == [len(ids) - 1] * stopped
            assert completion.text == policy.tokenizer.decode(ids[: len(ids) - stopped])
    assert {*policy.eos_token_ids} <= ended_by


def test_some_completions_end_early_so_that_dropping_rows_is_exercised(groups):
    lengths = {len(c.token_ids_T) for group in groups for c in group.completions}
    assert min(lengths) < SAMPLING.max_tokens


def test_greedy_takes_the_most_likely_word_of_a_full_forward_at_each_step(policy, prompts):
    sampling = SamplingParams(num_completions=1, max_tokens=8, temperature=0.0)
    (group,) = TransformersEngine(policy).generate(prompts[:1], sampling, seeds=[0])
    prompt, ids = prompts[0], group.completions[0].token_ids_T
    start = int(prompt.positions_3P.max()) + 1
    for t in range(len(ids)):
        sequence = torch.cat([prompt.input_ids_P, ids[:t]])
        positions = torch.cat([prompt.positions_3P, (torch.arange(t) + start).expand(3, -1)], dim=1)
        with torch.no_grad():
            logits = policy.model(
                sequence[None],
                pixel_values_videos=prompt.pixels_NC,
                video_grid_thw=torch.tensor([prompt.media[0].grid_thw]),
                position_ids=positions[:, None],
                mm_token_type_ids=policy.is_visual(sequence)[None].int() * 2,
            ).logits[0, -1]
        assert int(logits.index_fill(0, policy.banned_ids, -torch.inf).argmax()) == int(ids[t])


def test_completions_carry_the_version_of_the_weights(policy, prompts):
    engine = TransformersEngine(policy)
    engine.load_weights(policy.named_weights(), version=7)
    (group,) = engine.generate(prompts[:1], SAMPLING, seeds=[0])
    assert {completion.weights_version for completion in group.completions} == {7}
