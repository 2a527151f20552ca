"""Packing keeps every completion behind its own prompt and finds every token's predictor again."""

import torch

from ktr.attribution.views import Factual, MaskedVideo
from ktr.scoring.packing import pack, split_by_tokens, unpack
from ktr.scoring.scorer import GroupScorer
from ktr.scoring.views import apply_view
from tests.tiny_policy import NUM_VISUAL, random_group


def packed(policy, groups, view):
    features = policy.encode_video([group.prompt for group in groups])
    return pack(groups, [apply_view(view, policy, g.prompt, f, 0) for g, f in zip(groups, features, strict=True)])


def test_targets_are_the_generated_tokens_and_predictors_the_rows_before_them(policy):
    groups = [random_group(policy, 0, [3, 5]), random_group(policy, 1, [2])]
    row = packed(policy, groups, Factual())
    expected = torch.cat([c.token_ids_T for group in groups for c in group.completions])
    assert torch.equal(row.targets_M, expected)
    first = groups[0].prompt.num_tokens
    second = first + 3 + 5 + groups[1].prompt.num_tokens
    assert row.predictors_M.tolist() == [
        *[first - 1, first, first + 1],
        *[first - 1, first + 3, first + 4, first + 5, first + 6],
        *[second - 1, second],
    ]
    assert row.layout.length == len(row.input_ids_L) == second + 2  # no padding anywhere


def test_every_completion_continues_the_positions_of_its_prompt(policy):
    group = random_group(policy, 0, [3, 4])
    row = packed(policy, [group], Factual())
    start = int(group.prompt.positions_3P.max()) + 1
    tail = row.positions_3L[:, group.prompt.num_tokens :]
    assert tail.tolist() == [[start, start + 1, start + 2, start, start + 1, start + 2, start + 3]] * 3


def test_dropping_the_video_leaves_all_other_positions_where_they_were(policy):
    group = random_group(policy, 0, [3])
    row = packed(policy, [group], MaskedVideo("drop"))
    kept = ~policy.is_visual(group.prompt.input_ids_P)
    assert row.layout.spans[0].prompt_length == group.prompt.num_tokens - NUM_VISUAL
    assert torch.equal(row.positions_3L[:, : int(kept.sum())], group.prompt.positions_3P[:, kept])
    assert len(row.features_NF) == 0


def test_unpacking_restores_shape_and_zeroes_padding(policy):
    group = random_group(policy, 0, [1, 3])
    values = unpack([group], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert values[0].tolist() == [[1.0, 0.0, 0.0], [2.0, 3.0, 4.0]]


def test_rows_are_filled_in_order_and_hold_at_least_one_group(policy):
    groups = [random_group(policy, i, [4, 4]) for i in range(3)]
    size = groups[0].prompt.num_tokens + 8
    assert split_by_tokens(groups, max_tokens=1) == [[0], [1], [2]]
    assert split_by_tokens(groups, max_tokens=10 * size) == [[0, 1, 2]]


def test_completions_do_not_see_each_other_nor_another_group(policy):
    """Changing one completion changes no score of the others; nor does the company of other groups."""
    scorer = GroupScorer()
    a, b = random_group(policy, 0, [4, 6, 5]), random_group(policy, 0, [4, 6, 2])
    other = random_group(policy, 1, [3])
    features = policy.encode_video([a.prompt, other.prompt])
    alone = scorer.score(policy, [a], features[:1], Factual(), [0])[0].logps_GT
    changed = scorer.score(policy, [b], features[:1], Factual(), [0])[0].logps_GT
    torch.testing.assert_close(alone[:2], changed[:2], atol=1e-5, rtol=0)
    together = scorer.score(policy, [other, a], features.__class__(reversed(features)), Factual(), [0, 0])[1].logps_GT
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_permuting_completions_permutes_their_scores(policy):
    from ktr.types import RolloutGroup

    group = random_group(policy, 0, [4, 6, 5])
    order = [2, 0, 1]
    permuted = RolloutGroup(group.prompt, tuple(group.completions[i] for i in order))
    features = policy.encode_video([group.prompt])
    scorer = GroupScorer()
    a = scorer.score(policy, [group], features, Factual(), [0])[0].logps_GT
    b = scorer.score(policy, [permuted], features, Factual(), [0])[0].logps_GT
    torch.testing.assert_close(a[order], b, atol=1e-5, rtol=0)
