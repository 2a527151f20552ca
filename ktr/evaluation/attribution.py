"""Which tokens of a policy's answers the signals score high and select, outside of training."""

from collections.abc import Callable, Sequence

import torch

from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import Factual
from ktr.policy.family import Policy
from ktr.record.token_records import Record, token_records
from ktr.scoring.scorer import GroupScorer
from ktr.types import Experience, RolloutGroup

LabelTokens = Callable[[RolloutGroup], list[list[str]]]


@torch.no_grad()
def attribution_records(
    policy: Policy,
    scorer: GroupScorer,
    weighting: TokenWeighting,
    experiences: Sequence[Experience],
    seeds: Sequence[int],
    step: int = 0,
    label: LabelTokens | None = None,
) -> list[Record]:
    """One record per completion, with every signal's scores and selection, and roles where ``label`` knows them."""
    groups = [experience.group for experience in experiences]
    features = policy.encode_video([group.prompt for group in groups])
    factual = scorer.score(policy, groups, features, Factual(), seeds, entropy=True)
    required = [weighting.required_views(group.question.data_type) for group in groups]
    views = scorer.score_views(policy, groups, features, required, seeds)
    records: list[Record] = []
    for experience, scores, counterfactual, seed in zip(experiences, factual, views, seeds, strict=True):
        group = experience.group
        weights = weighting(GroupScores.of(group, scores, counterfactual, policy.eos_token_id, seed))
        roles = None if label is None else label(group)
        records += token_records(experience, weights, scores, policy.decode_tokens, step, roles)
    return records
