"""The reference policy of the KL term: a frozen copy, or the policy with its LoRA adapters off."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import Factual
from ktr.policy.family import Policy
from ktr.scoring.scorer import GroupScorer
from ktr.types import RolloutGroup


class Reference:
    """Log-probs of the policy as it was before training.

    With LoRA the reference is ``policy`` without its adapters and costs no memory; else it is a second copy, which
    ``load_frozen`` gives when it is first asked for: a run without a KL term never loads it. A tower that isn't trained
    is the same in both, and its features are used again.
    """

    def __init__(self, policy: Policy, load_frozen: Callable[[], Policy]):
        self.policy = policy
        self.load_frozen = load_frozen
        self.place: Callable[[Policy], object] = lambda frozen: frozen.to(policy.device)

    @cached_property
    def frozen(self) -> Policy:
        """The second copy, on the policy's device or wherever else ``place`` puts it."""
        frozen = self.load_frozen().requires_grad_(False).eval()
        self.place(frozen)
        return frozen

    @torch.no_grad()
    def logps(
        self, scorer: GroupScorer, groups: Sequence[RolloutGroup], features: Sequence[Float[Tensor, "_ F"]]
    ) -> list[Float[Tensor, "G T"]]:
        """Factual log-probs of each group's tokens; ``features`` are the policy's."""
        model = self.policy if self.policy.has_adapters else self.frozen
        trains_vision = self.policy.trains_vision  # without its adapters it would say no
        with self.policy.without_adapters() if self.policy.has_adapters else nullcontext():
            if trains_vision and groups:
                features = model.encode_video([group.prompt for group in groups])
            scores = scorer.score(model, groups, features, Factual(), seeds=[0] * len(groups))
        return [score.logps_GT for score in scores]
