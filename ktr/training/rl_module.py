"""One step of GRPO and of every method that is made of it.

    questions ──► rollouts ──► rewards ──► advantages            (group = one question, G completions)
    score views, no gradient:  masked video │ shuffled frames │ reference     (only what the run's signals require)
    score the factual view, with gradient ──► log-probs, entropies
    signals ──► scores ──► selection ──► token weights ──► loss ──► backward, clip, optimizer step ──► push weights

A method is a composition of a reward, an advantage, a token weighting and a loss; this file knows none by name. Where
rollouts come from is ``rollout_source``, what is scored and how it becomes a gradient ``learner``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ktr.algorithm.advantage import Advantage
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.scored_group import ScoredGroup
from ktr.algorithm.token_baseline import TokenAdvantage
from ktr.algorithm.weighting import TokenWeighting
from ktr.data.loaders import TrainLoader
from ktr.errors import ConfigError
from ktr.evaluation.parts import loss_parts, weighting_parts
from ktr.policy.family import Policy
from ktr.record.step_output import StepOutput
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from ktr.training.dynamic_sampling import DynamicSampling, Filled, JudgedBatch
from ktr.training.equal_passes import EqualPasses
from ktr.training.feature_graph import Features
from ktr.training.learner import Learner, global_counts
from ktr.training.matched_updates import MatchedAdamW, MatchedAdamWCosine, gradient_of_all_tokens, refuse_unmatched
from ktr.training.optim import AdamWCosine
from ktr.training.policy_module import PolicyModule
from ktr.training.rollout_source import RolloutSource
from ktr.training.sharded_strategy import ShardedStrategy
from ktr.training.step_metrics import StepClock, engine_metrics, loss_metrics, rollout_metrics
from ktr.types import Experience, PromptInputs, RolloutGroup


class VideoRLModule(PolicyModule):
    """Policy, reference and engine, and the step that trains the policy from its own rollouts.

    ``sampling`` is that of the training rollouts. ``updates_per_rollout`` > 1 takes several optimizer steps on each
    batch of rollouts, with the clip acting from the second on; from the first where the engine overlaps. Each has its
    row of losses, and the last that of the rollouts too; the run ends at ``trainer.max_steps`` also within a batch.
    ``truncated`` says what a completion that was cut at the longest length counts: with "mask" it teaches nothing, and
    the policy loss is divided by the counts of the others; penalties, a KL's too, stay means over all completions.
    ``dynamic_sampling`` takes further questions for groups that teach nothing. ``seed``, the step and the question fix
    every draw, on any number of ranks. The rest is ``PolicyModule``'s.
    """

    def __init__(
        self,
        policy: Policy,
        engine: RolloutEngine,
        scorer: GroupScorer,
        reward: CompositeReward,
        advantage: Advantage,
        weighting: TokenWeighting,
        loss: ClippedSurrogate,
        optimizer: AdamWCosine,
        sampling: SamplingParams,
        validation_sampling: Mapping[str, SamplingParams],
        failure_dir: str | Path,
        reference: Reference | None = None,
        updates_per_rollout: int = 1,
        seed: int = 0,
        truncated: Literal["keep", "mask"] = "keep",
        dynamic_sampling: DynamicSampling | None = None,
    ):
        super().__init__(policy, engine, reward, optimizer, validation_sampling, failure_dir, seed)
        if engine.overlap and reward.reads_selection:
            raise ConfigError("a reward that counts selected tokens (count=selected) needs rollout.overlap=0")
        if sampling.num_completions < 2:
            raise ConfigError(
                f"sampling.num_completions={sampling.num_completions}: an advantage is relative to other completions "
                "of the question; give 2 at least"
            )
        if sampling.temperature == 0:
            raise ConfigError(
                "sampling.temperature=0: all completions of a question would be the same, and nothing could be learned "
                "from them; give more than 0"
            )
        policy.switch_off_dropout()
        self.scorer, self.sampling, self.advantage = scorer, sampling, advantage
        self.updates_per_rollout = updates_per_rollout
        self.truncated, self.dynamic_sampling = truncated, dynamic_sampling
        self.num_steps = 0  # batches of the data are more where a step takes several
        # What the present step learns from, and its global counts: for callbacks that look before the optimizer acts.
        self.learning: tuple[list[ScoredGroup], tuple[int, int]] = ([], (0, 0))
        self.source = RolloutSource(policy, engine, sampling, reward.contrast, updates_per_rollout, seed)
        of_tokens = advantage if isinstance(advantage, TokenAdvantage) else None
        if of_tokens is not None and truncated == "mask":
            raise ConfigError(
                "algorithm.truncated=mask leaves completions out, and an advantage of tokens compares with all of "
                "them; choose truncated=keep, or another advantage"
            )
        self.learner = Learner(policy, scorer, weighting, loss, reference, engine.correction, of_tokens)

    def configure_model(self) -> None:
        super().configure_model()
        if isinstance(self.optimizer_settings, MatchedAdamWCosine):
            refuse_unmatched(self.learner, self.updates_per_rollout)
        self.learner.passes = passes = self.passes
        if isinstance(passes, EqualPasses) and self.learner.reference is not None:
            strategy = cast(ShardedStrategy, self.trainer.strategy)

            def spread(reference: Policy) -> None:
                passes.meet()
                strategy.shard(reference)
                passes.add_reference(reference)

            self.learner.reference.place = spread

    @property
    def updates_per_batch(self) -> int:
        return self.updates_per_rollout

    def training_step(self, batch: list[PromptInputs], batch_idx: int) -> dict[str, Any]:
        clock, sampled_for = StepClock(), self.global_step
        self.num_steps += 1
        with self.source.ahead:  # no generation outlives the step that started it
            filled = self._filled(self._rollouts(batch, sampled_for, clock), sampled_for, clock)
            learned, experiences = filled.learned, filled.sampled
            to_learn = self.learner.prepare(learned.experiences, learned.features, learned.old_logps, learned.seeds)
            counts = all_counts = global_counts(learned.experiences, self.policy.device)
            if self.truncated == "mask":
                counts = global_counts(learned.experiences, self.policy.device, with_truncated=False)
            self.learning = to_learn, counts
            clock.mark("views")

            metrics: dict[str, Tensor] = {}
            num_updates, every = self._num_updates(), cast(Any, self.trainer).log_every_n_steps
            logs = every > 0 and self.num_steps % every == 0  # as Lightning decides for the last of them
            for update in range(num_updates):
                self.policy.zero_grad()
                terms = self.learner.backward(to_learn, counts, self.manual_backward, all_counts)
                metrics = loss_metrics(terms, self.policy.device)
                if update == 0:
                    self.source.finish_next(self._sampled_logps, clock)  # before the weights that sampled change
                metrics = self.take_step(metrics, experiences)
                if update + 1 < num_updates and logs:
                    self.log_row(metrics)
            self.learning = [], counts  # else a batch's features would live on through the next rollouts
            clock.mark("update")

        self.push_weights()
        clock.mark("weight_push")
        groups = [experience.group for experience in experiences]
        metrics |= engine_metrics(to_learn, groups, sampled_for, self.engine.correction is not None, self.policy.device)
        if self.dynamic_sampling is not None:
            for count in ("num_batches", "num_surplus"):
                metrics[f"rollout/{count}"] = torch.tensor(float(getattr(filled, count)))
        self.log_dict(metrics | {"step": float(self.global_step)})
        self.log_dict(rollout_metrics(experiences), sync_dist=True)
        return {"loss": metrics["loss/total"], "output": StepOutput(experiences, to_learn, clock.seconds)}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if isinstance(optimizer, MatchedAdamW):
            gradients = gradient_of_all_tokens(self.policy, self.learner, *self.learning)
            optimizer.match(gradients, self.optimizer_settings.max_grad_norm)

    def parts(self) -> dict[str, Any]:
        loss, weighting = self.learner.loss, self.learner.weighting
        of_tokens = weighting_parts(weighting) | loss_parts(loss)
        of_groups = {"advantage": self.advantage, "rollout.correction": self.learner.correction}
        return super().parts() | of_groups | of_tokens

    def judge(self, groups: Sequence[RolloutGroup]) -> list[Experience]:
        """The groups with their rewards and advantages."""
        rewarded = zip(groups, self.reward.of_groups(groups), strict=True)
        return [self._experience(group, parts, rewards_G) for group, (parts, rewards_G) in rewarded]

    def _experience(self, group: RolloutGroup, parts: dict[str, Tensor], rewards_G: Tensor) -> Experience:
        advantages_G = self.advantage(rewards_G)
        if self.truncated == "mask":
            finished = [completion.finish_reason == "stop" for completion in group.completions]
            advantages_G = torch.where(torch.tensor(finished), advantages_G, 0.0)
        return Experience(group, parts, rewards_G, advantages_G)

    def _rollouts(self, batch: list[PromptInputs], version: int, clock: StepClock) -> JudgedBatch:
        rollouts, features, seeds = self.source.take(batch, version, self._upcoming, clock)
        return JudgedBatch(self._judge_all(rollouts.groups, features, seeds), features, rollouts.old_logps, seeds)

    def _filled(self, first: JudgedBatch, version: int, clock: StepClock) -> Filled:
        """The step that begins with a batch: that batch, or with dynamic sampling what is learned from several."""
        if self.dynamic_sampling is None:
            return Filled(first, first.experiences)

        def more() -> JudgedBatch | None:
            self.source.finish_next(self._sampled_logps, clock)
            batch = cast(TrainLoader, self.trainer.train_dataloader).take()
            return None if batch is None else self._rollouts(batch, version, clock)

        return self.dynamic_sampling.fill(first, more)

    def _judge_all(self, groups: list[RolloutGroup], features: Features, seeds: list[int]) -> list[Experience]:
        if self.reward.reads_selection:
            groups = self.learner.with_num_selected(groups, features, seeds)
        return self.judge(groups)

    def _num_updates(self) -> int:
        """Updates that the present batch is worth: fewer where the run ends within it."""
        length = self.trainer.max_steps
        left = length - self.global_step if length >= 0 else self.updates_per_rollout
        return min(left, self.updates_per_rollout)

    def _upcoming(self) -> list[PromptInputs] | None:
        """The next step's batch; None if this step is the last."""
        if 0 <= self.trainer.max_steps <= self.global_step + self.updates_per_rollout:
            return None
        return cast(TrainLoader, self.trainer.train_dataloader).peek()

    def _sampled_logps(self, groups: Sequence[RolloutGroup], features: Features) -> list[Tensor | None]:
        # A judge that is asked twice costs twice, and need not say the same: then no group is left out.
        if self.reward.asks_elsewhere:
            learned = [True] * len(groups)
        else:
            learned = [self.learner.is_learned(experience) for experience in self.judge(groups)]
        return self.learner.sampled_logps(groups, features, learned)

    def on_train_end(self) -> None:
        self.source.ahead.close()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint |= self.source.state_dict() | {"num_steps": self.num_steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.source.load_state_dict(checkpoint)
        self.num_steps = checkpoint.get("num_steps", self.source.num_batches)
