"""The groups that a step learns from, with all that was scored before the first update."""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.importance import Mismatch
from ktr.algorithm.weighting import TokenWeighting, Uniform
from ktr.attribution.views import View
from ktr.types import Experience, TokenScores, TokenWeights


@dataclass
class ScoredBatch:
    """One entry per group in each list.

    ``factual`` and ``weights`` are filled in the first update of a batch of rollouts, and stay for later ones.
    ``old_logps`` are the trainer's log-probs under the weights that sampled: given for rollouts that were generated
    ahead, else those of the first update, whose policy is then the one that sampled. With them come ``mismatches`` with
    the engine, and its ``importance`` weights where a correction is on. ``weighting`` is that of this batch.
    """

    experiences: list[Experience]
    features: list[Float[Tensor, "_ D"]]
    views: list[dict[View, TokenScores]]
    ref_logps: list[Float[Tensor, "_ _"] | None]
    old_logps: dict[int, Float[Tensor, "_ _"]] = field(default_factory=dict)
    factual: dict[int, TokenScores] = field(default_factory=dict)
    weights: dict[int, TokenWeights] = field(default_factory=dict)
    mismatches: dict[int, Mismatch] = field(default_factory=dict)
    importance: dict[int, Float[Tensor, "_ _"]] = field(default_factory=dict)
    weighting: TokenWeighting = field(default_factory=Uniform)
