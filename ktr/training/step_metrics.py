"""What a training step logs: rewards, rollouts, how far the engine is from the trainer, loss terms, and its time."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ktr.algorithm.loss import LossTerms
from ktr.algorithm.scored_group import ScoredGroup
from ktr.ranks import max_over_ranks, sum_over_ranks
from ktr.types import Experience, RolloutGroup


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
    """The loss of the global batch and its terms: the sums of the groups' terms over all ranks.

    ``loss/ratio_mean`` is the mean over the tokens that were scored: 1 on-policy, and where nothing was.
    """
    names = {
        "loss/total": "loss",
        "loss/policy": "policy_loss",
        "loss/kl": "kl",
        "loss/clip_fraction": "clip_fraction",
        "loss/ratio_mean": "ratio_sum",
        "tokens": "num_tokens",
    }
    sums = torch.zeros(len(names), device=device)
    for term in terms:
        sums += torch.stack([getattr(term, name).detach() for name in names.values()])
    metrics = dict(zip(names, sum_over_ranks(sums), strict=True))
    num_tokens, ratio_sum = metrics.pop("tokens"), metrics["loss/ratio_mean"]
    metrics["loss/ratio_mean"] = torch.where(num_tokens > 0, ratio_sum / num_tokens, 1.0)
    return metrics


def engine_metrics(
    to_learn: Sequence[ScoredGroup],
    groups: Sequence[RolloutGroup],
    version: int,
    corrected: bool,
    device: torch.device,
) -> dict[str, Tensor]:
    """Mismatch of engine and trainer over the tokens learned from, and staleness of all completions; over all ranks.

    ``version`` is the policy's when the groups were taken. The mean importance weight of those tokens is there where
    the mismatch is ``corrected``. All are 0 for a batch that nothing is learned from.
    """
    zero = torch.zeros((), device=device)
    staleness = [version - completion.weights_version for group in groups for completion in group.completions]
    firsts = [scored.first for scored in to_learn if scored.first is not None]
    parts = [first.mismatch for first in firsts]
    importance = [first.importance_GT.sum() for first in firsts if first.importance_GT is not None]
    total = lambda values: sum((value.to(device) for value in values), zero)  # noqa: E731
    sums = {
        "rollout/mismatch/mean": total(part.absolute for part in parts),
        "rollout/mismatch/kl": total(part.kl for part in parts),
        "rollout/importance_mean": total(importance),
        "tokens": total(part.num_tokens for part in parts),
        "rollout/staleness/mean": zero + sum(staleness),
        "completions": zero + len(staleness),
    }
    sums = dict(zip(sums, sum_over_ranks(torch.stack([*sums.values()])), strict=True))
    if not corrected:
        del sums["rollout/importance_mean"]
    num_tokens, num_completions = sums.pop("tokens").clamp(min=1), sums.pop("completions")
    staleness_mean = sums.pop("rollout/staleness/mean") / num_completions
    largest = torch.stack([zero, *(part.largest.to(device) for part in parts)]).max()
    maxima = max_over_ranks(torch.stack([largest, zero + max(staleness)]))
    return {name: value / num_tokens for name, value in sums.items()} | {
        "rollout/mismatch/max": maxima[0],
        "rollout/staleness/mean": staleness_mean,
        "rollout/staleness/max": maxima[1],
    }
