"""What a training step hands to callbacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ktr.algorithm.scored_group import ScoredGroup
from ktr.types import Experience


@dataclass(frozen=True)
class StepOutput:
    """``experiences`` are all groups of a step, ``to_learn`` those that it learned from, with their scores and weights.

    A group of equal rewards teaches nothing, and is not scored. ``seconds`` maps a part of the step to its time.
    """

    experiences: Sequence[Experience]
    to_learn: Sequence[ScoredGroup]
    seconds: Mapping[str, float]

    @property
    def num_questions(self) -> int:
        """Questions that were asked: more than the batch's where dynamic sampling took further ones."""
        return len(self.experiences)

    @property
    def num_tokens(self) -> int:
        """Tokens that were generated."""
        return sum(experience.group.num_tokens for experience in self.experiences)


def step_output(outputs: Mapping[str, Any]) -> StepOutput | None:
    """The step's output among Lightning's ``outputs``; None of a step without rollouts (SFT)."""
    return outputs.get("output")
