"""A signal, a reward and a loss's ratio, from the public names of ktr alone."""

import torch
from torch import Tensor

from ktr.attribution.group_scores import GroupScores
from ktr.attribution.signals import Signal
from ktr.types import RolloutGroup


class Early(Signal):
    """1 at the first token, falling to 0."""

    name = "mine"

    def scores(self, group: GroupScores) -> Tensor:
        return torch.linspace(1, 0, group.completion_mask_GT.shape[1]).expand_as(group.factual.logps_GT)


class Brevity:
    """1 for no token, falling to 0 at ``limit`` tokens."""

    name = "mine"

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit

    def __call__(self, group: RolloutGroup) -> Tensor:
        return (1 - group.completion_mask_GT.sum(dim=1) / self.limit).clamp(min=0)


def sequence_ratio(logps_GT: Tensor, old_logps_GT: Tensor, completion_mask_GT: Tensor) -> Tensor:
    """GSPO's: the geometric mean of a completion's token ratios, for each of its tokens."""
    lengths_G1 = completion_mask_GT.sum(1, keepdim=True).clamp(min=1)
    mean_G1 = (logps_GT - old_logps_GT).detach().sum(1, keepdim=True) / lengths_G1
    return mean_G1.exp() * (logps_GT - logps_GT.detach()).exp()
