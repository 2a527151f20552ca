"""The reward of a completion: a weighted sum of parts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import ShuffledFrames
from ktr.errors import ConfigError, NonFiniteError
from ktr.types import RolloutGroup, VideoQuestion


@runtime_checkable
class Reward(Protocol):
    """Scores the completions of a group. ``name`` is the part's name in metrics and records."""

    name: str

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]: ...


@runtime_checkable
class BatchReward(Reward, Protocol):
    """A reward that judges all groups of a step at once: a model, or a judge that is served."""

    def score_groups(self, groups: Sequence[RolloutGroup]) -> Sequence[Float[Tensor, " G"]]: ...


@dataclass(frozen=True)
class ContrastRollouts:
    """Completions that a reward compares with: of the same question, its video seen under ``view``.

    There are ``share`` times as many as in the group, rounded down, and at least one. An image has none.
    """

    view: ShuffledFrames
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.share <= 0:
            raise ConfigError(f"share={self.share}: a reward that compares needs completions to compare with")

    def num_completions(self, group_size: int) -> int:
        return max(1, int(self.share * group_size))


@runtime_checkable
class ContrastingReward(Reward, Protocol):
    """A reward that reads ``group.contrast``, and says what must be there."""

    contrast: ContrastRollouts


@runtime_checkable
class CheckingReward(Reward, Protocol):
    """A reward that knows which questions it cannot judge."""

    def check(self, question: VideoQuestion) -> None: ...


class CompositeReward:
    """Adds up rewards, weight 1 where none is given.

    Args:
        rewards: parts by name; one that is None is switched off.
        weights: weights of some or all of the parts.
    """

    def __init__(self, rewards: Mapping[str, Reward | None], weights: Mapping[str, float] | None = None) -> None:
        self.rewards = {name: reward for name, reward in rewards.items() if reward is not None}
        if not self.rewards:
            raise ConfigError("rewards: at least one reward is needed")
        if unknown := set(weights or {}) - set(rewards):
            raise ConfigError(f"weights: {sorted(unknown)} are no rewards; the rewards are {sorted(rewards)}")
        self.weights = {name: (weights or {}).get(name, 1.0) for name in self.rewards}
        if len(set(self._contrasts().values())) > 1:
            raise ConfigError(f"rewards: a group has one set of completions to compare with, not {self._contrasts()}")

    def check(self, question: VideoQuestion) -> None:
        """Raises a ``RowError`` where a part could pay no completion, however right, for this question."""
        for reward in self.rewards.values():
            if isinstance(reward, CheckingReward):
                reward.check(question)

    @property
    def contrast(self) -> ContrastRollouts | None:
        """The rollouts that must be made beside a group's own, for the parts that compare with them."""
        return next(iter(self._contrasts().values()), None)

    @property
    def reads_selection(self) -> bool:
        """True where a part counts the tokens with a weight, so that they must be weighed before they are rewarded."""
        return any(getattr(reward, "reads_selection", False) for reward in self.rewards.values())

    @property
    def asks_elsewhere(self) -> bool:
        """True where a part judges all groups of a step at once: it costs, and need not say the same twice."""
        return any(isinstance(reward, BatchReward) for reward in self.rewards.values())

    def __call__(self, group: RolloutGroup) -> tuple[dict[str, Float[Tensor, " G"]], Float[Tensor, " G"]]:
        """The unweighted parts by name, and their weighted sum ``rewards_G``."""
        return self.of_groups([group])[0]

    def of_groups(
        self, groups: Sequence[RolloutGroup]
    ) -> list[tuple[dict[str, Float[Tensor, " G"]], Float[Tensor, " G"]]]:
        """For each group its parts and their sum.

        Raises NonFiniteError where a part is NaN or infinite: one such value would be the whole group's advantage.
        """
        return [
            (parts, torch.stack([self.weights[name] * part_G for name, part_G in parts.items()]).sum(dim=0))
            for parts in self.parts(groups)
        ]

    def parts(
        self, groups: Sequence[RolloutGroup], names: Collection[str] | None = None
    ) -> list[dict[str, Float[Tensor, " G"]]]:
        """For each group all parts by name, or those of ``names``: no other one is asked."""
        of_groups: list[dict[str, Tensor]] = [{} for _ in groups]
        for name, reward in self.rewards.items():
            if names is not None and name not in names:
                continue
            scores = reward.score_groups(groups) if isinstance(reward, BatchReward) else [*map(reward, groups)]
            for parts, group, part_G in zip(of_groups, groups, scores, strict=True):
                if not part_G.isfinite().all():
                    raise NonFiniteError(
                        f"reward {name} of question {group.question.id} is {part_G.tolist()}: a reward must be finite"
                    )
                parts[name] = part_G
        return of_groups

    def _contrasts(self) -> dict[str, ContrastRollouts]:
        return {name: reward.contrast for name, reward in self.rewards.items() if isinstance(reward, ContrastingReward)}
