"""What a training step logs: rewards, rollouts, loss terms, and where its time went."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ktr.algorithm.loss import LossTerms
from ktr.training.ranks import sum_over_ranks
from ktr.types import Experience


class StepClock:
    """Seconds of each part of a step, in the order in which they are marked."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, part: str) -> None:
        """Count the time since the last mark, or since the start, for ``part``."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def rollout_metrics(experiences: Sequence[Experience]) -> dict[str, float]:
    """Rewards and completions of a step's rollouts, means over completions; shares of groups that teach nothing."""
    completions = [completion for experience in experiences for completion in experience.group.completions]
    lengths = torch.tensor([len(completion.token_ids_T) for completion in completions], dtype=torch.float32)
    rewards_N = torch.cat([experience.rewards_G for experience in experiences])
    metrics = {
        "reward/total": rewards_N.mean().item(),
        "reward/std": torch.stack([e.rewards_G.std(correction=0) for e in experiences]).mean().item(),
        "rollout/completion_length": lengths.mean().item(),
        "rollout/truncated_fraction": sum(c.finish_reason == "length" for c in completions) / len(completions),
        "rollout/zero_advantage_fraction": sum(not e.has_signal for e in experiences) / len(experiences),
    }
    for name in experiences[0].reward_parts:
        metrics[f"reward/{name}"] = torch.cat([e.reward_parts[name] for e in experiences]).mean().item()
    return metrics


def loss_metrics(terms: Sequence[LossTerms], device: torch.device) -> dict[str, Tensor]:
    """The loss of the global batch and its terms: the sums of the groups' terms over all ranks."""
    names = {
        "loss/total": "loss",
        "loss/policy": "policy_loss",
        "loss/kl": "kl",
        "loss/clip_fraction": "clip_fraction",
        "loss/ratio_mean": "ratio_mean",
    }
    sums = torch.zeros(len(names), device=device)
    for term in terms:
        sums += torch.stack([getattr(term, name).detach() for name in names.values()])
    return dict(zip(names, sum_over_ranks(sums), strict=True))
