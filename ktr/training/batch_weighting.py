"""What must be known of a batch before its first group is weighed, or rewarded."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.entropy_minority import BatchWeighting
from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.views import Factual
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.ranks import gather_over_ranks
from ktr.scoring.scorer import GroupScorer
from ktr.types import RolloutGroup


@torch.no_grad()
def fit_to_batch(
    weighting: TokenWeighting,
    scorer: GroupScorer,
    policy: QwenVLPolicy,
    groups: Sequence[RolloutGroup],
    features: Sequence[Float[Tensor, "_ D"]],
) -> TokenWeighting:
    """``weighting`` itself, or, where it depends on the batch, what it is for this one. To be called on all ranks."""
    if not isinstance(weighting, BatchWeighting):
        return weighting
    scores = scorer.score(policy, groups, features, Factual(), [0] * len(groups), entropy=True)
    entropies = [
        score.entropies_GT.cpu()[group.completion_mask_GT]
        for score, group in zip(scores, groups, strict=True)
        if score.entropies_GT is not None
    ]
    return weighting.for_batch(gather_over_ranks(entropies))


@torch.no_grad()
def with_num_selected(
    groups: Sequence[RolloutGroup],
    weighting: TokenWeighting,
    scorer: GroupScorer,
    policy: QwenVLPolicy,
    features: Sequence[Float[Tensor, "_ D"]],
    seeds: Sequence[int],
) -> list[RolloutGroup]:
    """The groups with the number of tokens that have a weight in each completion.

    For rewards that count them: it scores the factual view and all others a second time. To be called on all ranks.
    """
    features = [feature.detach() for feature in features]
    weighting = fit_to_batch(weighting, scorer, policy, groups, features)
    required = [weighting.required_views(group.question.data_type) for group in groups]
    views = scorer.score_views(policy, groups, features, required, seeds)
    factual = scorer.score(policy, groups, features, Factual(), [0] * len(groups), entropy=True)
    counted = []
    for group, group_views, scores in zip(groups, views, factual, strict=True):
        mask_GT = group.completion_mask_GT.to(scores.logps_GT.device)
        eos_GT = mask_GT & (group.completion_ids_GT.to(mask_GT.device) == policy.eos_token_id)
        weights_GT = weighting(scores, group_views, mask_GT, eos_GT).weights_GT
        counted.append(replace(group, num_selected_G=(weights_GT != 0).sum(1).cpu()))
    return counted
