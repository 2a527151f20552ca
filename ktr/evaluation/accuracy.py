"""Accuracy of answers to held-out questions, with its interval."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ktr.analysis.statistics import wilson_interval
from ktr.errors import MissingData
from ktr.ranks import gather_over_ranks
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import SamplingParams
from ktr.types import RolloutGroup


@dataclass(frozen=True)
class Verdict:
    """How one answer to one question was judged; ``score`` is the accuracy reward, 0 to 1."""

    question_id: str
    category: str
    score: float
    formatted: bool
    num_tokens: int


def verdicts(groups: Sequence[RolloutGroup], reward: CompositeReward) -> list[Verdict]:
    """The verdicts on groups of one completion."""
    return [*map(_verdict, groups, reward.parts(groups, ("accuracy", "format")))]


def _verdict(group: RolloutGroup, parts: Mapping[str, Float[Tensor, " 1"]]) -> Verdict:
    (completion,) = group.completions
    question = group.question
    return Verdict(
        question.id,
        question.category or question.problem_type,
        float(parts["accuracy"][0]),
        bool(parts["format"][0] > 0),
        len(completion.token_ids_T),
    )


class AccuracyMeter:
    """Collects verdicts under one way of sampling and sums them up, each question counted once.

    ``summed`` holds the verdicts of the last summary by the ids of their questions.
    """

    def __init__(self, sampling: SamplingParams):
        self.sampling = sampling
        self.verdicts: list[Verdict] = []
        self.summed: dict[str, Verdict] = {}

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts += verdicts

    def summary(self) -> dict[str, Any]:
        """``accuracy`` with its 95 % interval ``low`` and ``high``, ``n``, ``format``, and accuracies by category.

        Over all ranks. Empties the meter. Raises MissingData where nothing was answered.
        """
        verdicts, self.verdicts = gather_over_ranks(self.verdicts), []
        self.summed = {verdict.question_id: verdict for verdict in verdicts}
        if not self.summed:
            raise MissingData("none of the held-out questions can be asked: skips.jsonl in the run's folder says why")
        return summarize(list(self.summed.values()))


def summarize(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The figures of ``AccuracyMeter.summary``; accuracies are None where nothing was answered."""
    n = len(verdicts)
    correct = sum(verdict.score for verdict in verdicts)
    low, high = wilson_interval(correct, n)
    by_category: dict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        by_category[verdict.category].append(verdict.score)
    return {
        "accuracy": correct / n if n else None,
        "n": n,
        "low": low,
        "high": high,
        "format": sum(verdict.formatted for verdict in verdicts) / n if n else None,
        "completion_length": sum(verdict.num_tokens for verdict in verdicts) / n if n else None,
        "by_category": {
            category: {"accuracy": sum(scores) / len(scores), "n": len(scores)}
            for category, scores in sorted(by_category.items())
        },
    }
