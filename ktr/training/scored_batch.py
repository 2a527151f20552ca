"""The groups that a step learns from, with all that was scored before the first update."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import View
from ktr.types import Experience, TokenScores, TokenWeights


@dataclass
class ScoredBatch:
    """One entry per group in each list.

    ``factual`` and ``weights`` are filled in the first update of a batch of rollouts, whose policy is the one that
    sampled them: its log-probs are the old log-probs of later updates, and its token weights stay.
    """

    experiences: list[Experience]
    features: list[Float[Tensor, "_ D"]]
    views: list[dict[View, TokenScores]]
    ref_logps: list[Float[Tensor, "_ _"] | None]
    factual: dict[int, TokenScores] = field(default_factory=dict)
    weights: dict[int, TokenWeights] = field(default_factory=dict)
