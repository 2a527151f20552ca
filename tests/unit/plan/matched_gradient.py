"""The pass that a matched update takes beside its own."""

import torch
from torch import Tensor

from ktr.algorithm.scored_group import ScoredGroup
from ktr.policy.family import Policy
from ktr.scoring.scorer import GroupScorer
from ktr.training.token_gradients import TokenGradients
from ktr.types import Experience, RolloutGroup


def gradient_of_all(policy: Policy, group: RolloutGroup, features_NF: Tensor, chunk_size: int) -> list[Tensor]:
    """The gradient of all tokens of one group, as ``gradient_of_all_tokens`` takes it."""
    ones_GT, zeros_G = torch.ones(group.completion_mask_GT.shape), torch.zeros(len(group.completions))
    scored = ScoredGroup(Experience(group, {}, zeros_G, zeros_G), features_NF, None, 0)
    scorer = GroupScorer(chunk_size=chunk_size, max_tokens_per_pass=100_000)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    gradients = TokenGradients(policy, scorer, trained)
    return gradients.of_parts([scored], [ones_GT], {"all": [ones_GT]}, token_norms=False)[0]["all"]
