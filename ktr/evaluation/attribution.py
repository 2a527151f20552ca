"""Which tokens of a policy's answers the signals score high and select, outside of training."""

from collections.abc import Callable, Sequence

import torch

from ktr.algorithm.weighting import TokenWeighting
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
    weighed = scorer.weigh(policy, groups, features, weighting, seeds)
    records: list[Record] = []
    for experience, (scores, weights) in zip(experiences, weighed, strict=True):
        roles = None if label is None else label(experience.group)
        records += token_records(experience, weights, scores, policy.decode_tokens, step, roles)
    return records
