"""What signals and weightings look at: the scores of one group's tokens, and which tokens those are."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ktr.attribution.views import View
from ktr.types import RolloutGroup, TokenScores


@dataclass(frozen=True)
class GroupScores:
    """A group under the factual view and under each counterfactual one that was required.

    ``factual`` has entropies and, where the pass had one, a gradient. ``eos_GT`` is True on the EOS of each completion
    that ended by itself. ``seeds``, one a completion, fix what is random about it; only controls draw. ``rollout`` has
    the texts and the question; None of scores that were made without one.
    """

    factual: TokenScores
    views: Mapping[View, TokenScores]
    completion_mask_GT: Bool[Tensor, "G T"]
    eos_GT: Bool[Tensor, "G T"]
    seeds: tuple[int, ...] = ()
    rollout: RolloutGroup | None = None

    @classmethod
    def of(
        cls,
        group: RolloutGroup,
        factual: TokenScores,
        views: Mapping[View, TokenScores],
        eos_token_ids: Sequence[int],
        seed: int,
    ) -> "GroupScores":
        """The scores of ``group``, on their device. ``seed`` is that of the question in this step.

        Another order of the completions, or another place in the batch, gives a completion the same seed.
        """
        mask_GT = group.completion_mask_GT.to(factual.logps_GT.device)
        ends_GT = torch.isin(group.completion_ids_GT, torch.tensor(eos_token_ids)) & group.completion_mask_GT
        words = [zlib.crc32(completion.token_ids_T.cpu().numpy().tobytes()) for completion in group.completions]
        seeds = tuple((seed ^ word) * 1_000_003 for word in words)
        return cls(factual, views, mask_GT, ends_GT.to(mask_GT.device), seeds, group)
