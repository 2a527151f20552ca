"""Questions until enough groups teach something: dynamic sampling (DAPO, arXiv 2503.14476, section 3.2).

A group whose completions all earn the same has no gradient. A step leaves it out and takes further batches of the
data, in their order, until it has as many groups as ``data.questions_per_step`` asks for, or has taken ``max_batches``.
Groups beyond that number are left over. All that was sampled is logged, so that accuracies are those of the policy and
not of the groups that were kept.

Assumption: rewards say which groups have a signal, so that they are paid before anything is scored. The batches that a
step took belong to it: a checkpoint lies between two steps and holds the place in the data behind them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError
from ktr.ranks import gather_over_ranks, share_of_rank
from ktr.training.feature_graph import Features
from ktr.types import Experience


@dataclass(frozen=True)
class JudgedBatch:
    """The groups of a batch with their rewards, and what the step knows about each of them, in the same order."""

    experiences: Sequence[Experience]
    features: Features
    old_logps: Sequence[Float[Tensor, "_ _"] | None]
    seeds: Sequence[int]

    def only(self, kept: Sequence[bool]) -> "JudgedBatch":
        places = [place for place, keep in enumerate(kept) if keep]
        return JudgedBatch(
            [self.experiences[place] for place in places],
            [self.features[place] for place in places],
            [self.old_logps[place] for place in places],
            [self.seeds[place] for place in places],
        )

    def __add__(self, other: "JudgedBatch") -> "JudgedBatch":
        return JudgedBatch(
            [*self.experiences, *other.experiences],
            [*self.features, *other.features],
            [*self.old_logps, *other.old_logps],
            [*self.seeds, *other.seeds],
        )


@dataclass(frozen=True)
class Filled:
    """What a step learns from, every group that was sampled for it, and from how many batches they came."""

    learned: JudgedBatch
    sampled: Sequence[Experience]
    num_batches: int = 1
    num_surplus: int = 0


class DynamicSampling:
    """Fills a step with groups that teach something, from at most ``max_batches`` batches of the data.

    A group is kept where its advantages are not all zero and, with ``part``, that part of the reward (``accuracy``, as
    DAPO's recipe has it) is not the same for all completions. After the last batch, and at the end of an epoch, the
    step goes on with the groups that it has.
    """

    def __init__(self, max_batches: int = 10, part: str | None = None) -> None:
        if max_batches < 1:
            raise ConfigError(f"dynamic_sampling.max_batches={max_batches}: a step takes 1 batch at least")
        self.max_batches, self.part = max_batches, part

    def keeps(self, experience: Experience) -> bool:
        """Whether a group is learned from. Raises ConfigError where the reward has no such ``part``."""
        if self.part is None:
            return experience.has_signal
        if self.part not in experience.reward_parts:
            parts = ", ".join(experience.reward_parts)
            raise ConfigError(f"dynamic_sampling.part={self.part}: the reward has no such part; it has {parts}")
        values_G = experience.reward_parts[self.part]
        return experience.has_signal and bool((values_G != values_G[0]).any())

    def fill(self, first: JudgedBatch, more: Callable[[], JudgedBatch | None]) -> Filled:
        """The step that starts with the batch ``first``; ``more`` is the next one, or None where there is none.

        To be called on all ranks: they take the same batches, and share the places of the global batch.
        """
        batch, learned = first, first.only([])
        sampled: list[Experience] = []
        wanted = len(gather_over_ranks([None] * len(first.experiences)))
        num_kept = num_batches = num_surplus = 0
        while True:
            sampled += batch.experiences
            num_batches += 1
            # In the order of the global batch, on every rank, so that all keep the same groups on any number of ranks.
            of_all = gather_over_ranks([self.keeps(experience) for experience in batch.experiences])
            places = [place for place, keep in enumerate(of_all) if keep]
            chosen = set(places[: wanted - num_kept])
            learned += batch.only(share_of_rank([place in chosen for place in range(len(of_all))]))
            num_kept += len(chosen)
            num_surplus += len(places) - len(chosen)
            following = more() if num_kept < wanted and num_batches < self.max_batches else None
            if following is None:
                return Filled(learned, sampled, num_batches, num_surplus)
            batch = following
