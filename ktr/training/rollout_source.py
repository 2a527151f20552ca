"""Where a step's rollouts come from: sampled when they are asked for or, where the engine overlaps, a step ahead.

In: the prompts of a batch. Out: ``Rollouts``, with the seeds of everything random about their questions. What waits
for what, where the engine overlaps, is drawn in ``rollouts_ahead``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError, EngineError
from ktr.policy.family import Policy
from ktr.rewards.composite import ContrastRollouts
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.group_sampler import GroupSampler
from ktr.training.feature_graph import Features
from ktr.training.rollouts_ahead import Rollouts, RolloutsAhead
from ktr.training.sharding import gathered_for, is_sharded
from ktr.training.step_metrics import StepClock
from ktr.types import PromptInputs, RolloutGroup

SampledLogps = Callable[[Sequence[RolloutGroup], Features], list[Tensor | None]]


class RolloutSource:
    """The groups of one batch after the other; ``ahead`` is a context in which a step is to be taken.

    ``seed``, the number of batches so far and the question fix every draw, on any number of ranks. Completions are at
    most ``updates_per_batch`` updates old for each batch that ``engine`` is ahead; raises ``ConfigError`` where it
    allows less.
    """

    def __init__(
        self,
        policy: Policy,
        engine: RolloutEngine,
        sampling: SamplingParams,
        contrast: ContrastRollouts | None,
        updates_per_batch: int,
        seed: int,
    ):
        if engine.overlap * updates_per_batch > engine.max_staleness:
            raise ConfigError(
                f"rollout.max_staleness={engine.max_staleness}: with rollout.overlap={engine.overlap} and "
                f"updates_per_rollout={updates_per_batch} completions are {engine.overlap * updates_per_batch} "
                "updates old when they are learned from; raise the bound, or set rollout.overlap=0"
            )
        self.policy, self.engine, self.sampling, self.seed = policy, engine, sampling, seed
        self.num_batches = 0
        self._sampler = GroupSampler(engine, contrast, policy.temporal_patch_size)
        self.ahead = RolloutsAhead(self._sampler, sampling)

    def take(
        self,
        prompts: list[PromptInputs],
        version: int,
        upcoming: Callable[[], list[PromptInputs] | None],
        clock: StepClock,
    ) -> tuple[Rollouts, list[Float[Tensor, "_ F"]], list[int]]:
        """The rollouts of ``prompts``, the tower's features, and the questions' seeds in this step.

        Where the engine overlaps it goes on with the ``upcoming`` batch. Raises ``EngineError`` where a completion is
        older than ``engine.max_staleness`` allows a policy of ``version``.
        """
        seeds = self._seeds(prompts)
        rollouts = self.ahead.take(prompts)
        if rollouts is None:
            rollouts = self._generate(prompts, seeds)
            clock.mark("rollout")
        self._check_staleness(rollouts.groups, version)
        self.num_batches += 1
        if self.engine.overlap and (following := upcoming()) is not None:
            self.ahead.start(following, self._seeds(following))
        features = self._encode(prompts) if rollouts.features is None else rollouts.features
        return rollouts, features, seeds

    @torch.no_grad()
    def finish_next(self, sampled_logps: SampledLogps, clock: StepClock) -> None:
        """Wait for the upcoming batch's groups, if it was begun, and score them under the weights that sampled."""
        clock.mark("update")
        groups = self.ahead.join()
        if groups is None:
            return
        clock.mark("rollout_wait")
        features = self.policy.encode_video([group.prompt for group in groups])
        old_logps = sampled_logps(groups, features)
        self.ahead.keep(Rollouts(groups, None if self.policy.trains_vision else features, old_logps))
        clock.mark("old_logps")

    def state_dict(self) -> dict[str, Any]:
        """Where the source is, and what it has ahead, of all ranks; to be called on all of them."""
        return {"num_rollout_steps": self.num_batches, "rollouts_ahead": self.ahead.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_batches = state["num_rollout_steps"]
        self.ahead.load_state_dict(state.get("rollouts_ahead", []))

    def _generate(self, prompts: list[PromptInputs], seeds: list[int]) -> Rollouts:
        features = self._encode(prompts)
        self.policy.eval()  # in training mode gradient checkpointing would switch the engine's cache off
        with gathered_for(self.engine, self.policy), self.policy.reusing_features(prompts, features):
            groups = self._sampler.generate(prompts, self.sampling, seeds)
        return Rollouts(groups, features, [None] * len(groups))

    def _encode(self, prompts: list[PromptInputs]) -> list[Float[Tensor, "_ F"]]:
        """The tower's only run, with gradient if it is trained; of a sharded tower, the learner runs it with gradient.

        There ranks have as many passes with gradient, and those of an update alone are known to all.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_sharded(self.policy)):
            return self.policy.encode_video(prompts)

    def _check_staleness(self, groups: Sequence[RolloutGroup], version: int) -> None:
        oldest = min(completion.weights_version for group in groups for completion in group.completions)
        if version - oldest > self.engine.max_staleness:
            raise EngineError(
                type(self.engine).__name__,
                f"sampled from weights {version - oldest} updates old (version {oldest}, the policy is at {version}), "
                f"rollout.max_staleness={self.engine.max_staleness}",
                "it missed a weight push: resume the run, or raise rollout.max_staleness",
            )

    def _seeds(self, prompts: Sequence[PromptInputs]) -> list[int]:
        return [prompt.question.seed(self.seed, self.num_batches) for prompt in prompts]
