"""A group that a step learns from: what was scored of it before the first update, and what the first update fixed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.importance import Mismatch
from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.views import View
from ktr.types import Experience, RolloutGroup, TokenScores, TokenWeights


@dataclass(frozen=True)
class FirstUpdate:
    """What the first update of a batch of rollouts fixes for all of its updates.

    ``factual`` are the scores and ``weights`` what they led to. ``old_logps_GT`` are the log-probs under the weights
    that sampled, ``advantages`` those of completions, or of tokens. With them come the ``mismatch`` with the engine,
    and its ``importance_GT`` where one is corrected.
    """

    factual: TokenScores
    weights: TokenWeights
    old_logps_GT: Float[Tensor, "G T"]
    advantages: Float[Tensor, "G *T"]
    mismatch: Mismatch
    importance_GT: Float[Tensor, "G T"] | None


@dataclass
class ScoredGroup:
    """``views`` and ``ref_logps_GT`` (None without a KL term) are scored before the first update, without gradient.

    ``given_logps_GT`` are the log-probs under the weights that sampled, where those are older than the policy's.
    ``weighting`` is that of this batch, None where weights would multiply zero. ``seed`` is the question's, this step.
    ``gradient_norms_GT`` are set where they are measured (``training.gradient_alignment``).
    """

    experience: Experience
    features_NF: Float[Tensor, "N F"]
    given_logps_GT: Float[Tensor, "G T"] | None
    seed: int
    views: Mapping[View, TokenScores] = field(default_factory=dict)
    ref_logps_GT: Float[Tensor, "G T"] | None = None
    weighting: TokenWeighting | None = None
    first: FirstUpdate | None = None
    gradient_norms_GT: Float[Tensor, "G T"] | None = None

    @property
    def group(self) -> RolloutGroup:
        return self.experience.group

    def old_logps(self, factual: TokenScores) -> Float[Tensor, "G T"]:
        """The log-probs under the weights that sampled; ``factual`` are the scores of the first update.

        They are given for rollouts that were generated ahead. Else the first update's policy is the one that sampled.
        """
        device = factual.logps_GT.device
        return factual.logps_GT.detach() if self.given_logps_GT is None else self.given_logps_GT.to(device)
