"""The reward of a completion: a weighted sum of parts."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError
from ktr.types import RolloutGroup


@runtime_checkable
class Reward(Protocol):
    """Scores the completions of a group. ``name`` is the part's name in metrics and records."""

    name: str

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]: ...


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

    def __call__(self, group: RolloutGroup) -> tuple[dict[str, Float[Tensor, " G"]], Float[Tensor, " G"]]:
        """The unweighted parts by name, and their weighted sum ``rewards_G``."""
        parts = {name: reward(group) for name, reward in self.rewards.items()}
        rewards_G = torch.stack([self.weights[name] * part_G for name, part_G in parts.items()]).sum(dim=0)
        return parts, rewards_G
