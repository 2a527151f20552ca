"""Chance is fixed by the question's seed and the completion, and by nothing else."""

import torch

from ktr.attribution.views import Chance, MaskedVideo
from ktr.scoring.chance import chance_scores
from ktr.scoring.scorer import GroupScorer
from ktr.types import RolloutGroup
from tests.tiny_policy import random_group

CPU = torch.device("cpu")


def test_draws_are_uniform_and_zero_off_the_mask(policy):
    group = random_group(policy, 0, [4000, 3])
    logps = chance_scores(group, 5, CPU).logps_GT
    uniform = logps[0].exp()
    assert not logps[~group.completion_mask_GT].any() and (uniform > 0).all() and (uniform <= 1).all()
    assert abs(uniform.mean() - 0.5) < 0.02 and abs(uniform.var() - 1 / 12) < 0.01


def test_a_completion_keeps_its_draws_in_any_order_and_another_seed_gives_others(policy):
    group = random_group(policy, 0, [7, 9, 4])
    order = [2, 0, 1]
    permuted = RolloutGroup(group.prompt, tuple(group.completions[i] for i in order))
    drawn = chance_scores(group, 5, CPU).logps_GT
    assert torch.equal(chance_scores(permuted, 5, CPU).logps_GT, drawn[order])
    assert not torch.equal(chance_scores(group, 6, CPU).logps_GT, drawn)
    assert not torch.equal(drawn[0, :4], drawn[2, :4])


def test_chance_costs_no_pass(policy, monkeypatch):
    groups = [random_group(policy, i, [3, 5]) for i in range(2)]
    features = policy.encode_video([group.prompt for group in groups])
    scorer = GroupScorer()
    calls = []
    score_pass = scorer.score_pass
    monkeypatch.setattr(scorer, "score_pass", lambda *args, **kwargs: calls.append(args) or score_pass(*args, **kwargs))
    scores = scorer.score_views(policy, groups, features, [(Chance(),), (MaskedVideo(), Chance())], [1, 2])
    assert [set(s) for s in scores] == [{Chance()}, {MaskedVideo(), Chance()}] and len(calls) == 1
    assert torch.equal(scores[1][Chance()].logps_GT, chance_scores(groups[1], 2, CPU).logps_GT)
