"""Which tokens of a policy's answers the signals score high and select, outside of training."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.views import view_names
from ktr.policy.family import Policy
from ktr.record.token_records import EXACT, Record, token_records
from ktr.scoring.own_rows import token_gradient_norms
from ktr.scoring.scorer import GroupScorer
from ktr.token_head import token_ranks
from ktr.types import Experience, RolloutGroup, TokenScores

LabelTokens = Callable[[RolloutGroup], list[list[str]] | None]


@torch.no_grad()
def attribution_records(
    policy: Policy,
    scorer: GroupScorer,
    weighting: TokenWeighting,
    experiences: Sequence[Experience],
    seeds: Sequence[int],
    step: int = 0,
    label: LabelTokens | None = None,
    gradients: bool = False,
) -> list[Record]:
    """One record per completion, with every signal's scores and selection, and roles where ``label`` knows them.

    Scores are exact. Log-probs under each view and places in the vocabulary are there as well; with ``gradients`` so is
    the norm of each token's own gradient (``scoring.own_rows``).
    """
    groups = [experience.group for experience in experiences]
    features = policy.encode_video([group.prompt for group in groups])
    weighting = scorer.fit(policy, groups, features, weighting)
    weighed = scorer.weigh(policy, groups, features, weighting, seeds)
    norms = token_gradient_norms(policy, scorer, groups, features) if gradients else [None] * len(groups)
    records: list[Record] = []
    for experience, (scores, weights), norms_GT in zip(experiences, weighed, norms, strict=True):
        group, names = experience.group, view_names(scores.views)
        records += token_records(
            experience,
            weights,
            scores.factual,
            policy.decode_tokens,
            step,
            roles=None if label is None else label(group),
            gradient_norms_GT=norms_GT,
            views={names[view]: of_view for view, of_view in scores.views.items()},
            ranks_GT=_ranks(group, scores.factual),
            score_digits=EXACT,
        )
    return records


def _ranks(group: RolloutGroup, factual: TokenScores) -> Int[Tensor, "G T"] | None:
    """Places in the vocabulary, 0 off the completion mask; None where no distributions were kept."""
    if factual.distributions is None:
        return None
    device = factual.logps_GT.device
    mask_GT, ids_GT = group.completion_mask_GT.to(device), group.completion_ids_GT.to(device)
    ranks_GT = torch.zeros_like(ids_GT)
    ranks_GT[mask_GT] = token_ranks(factual.distributions, ids_GT[mask_GT])
    return ranks_GT
