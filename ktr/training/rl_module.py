"""One step of GRPO and of every method that is made of it.

    questions ──► rollouts ──► rewards ──► advantages            (group = one question, G completions)
    score views, no gradient:  masked video │ shuffled frames │ reference     (only what the run's signals require)
    score the factual view, with gradient ──► log-probs, entropies
    signals ──► scores ──► selection ──► token weights ──► loss ──► backward, clip, optimizer step ──► push weights

A method is a composition of a reward, an advantage, a token weighting and a loss; this file knows none by name. Where
the engine overlaps, the next batch's rollouts are made meanwhile (``rollouts_ahead``).
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.importance import mismatch
from ktr.algorithm.loss import ClippedSurrogate, LossTerms
from ktr.algorithm.scored_batch import ScoredBatch
from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.views import Factual
from ktr.data.loaders import TrainLoader
from ktr.errors import ConfigError, EngineError
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.ranks import sum_over_ranks
from ktr.rewards.composite import CompositeReward
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.group_sampler import ContrastSampler
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from ktr.training.batch_weighting import fit_to_batch, with_num_selected
from ktr.training.optim import AdamWCosine
from ktr.training.policy_module import PolicyModule, backward_through_cut, cut_graph
from ktr.training.rollouts_ahead import Rollouts, RolloutsAhead
from ktr.training.step_metrics import StepClock, engine_metrics, loss_metrics, rollout_metrics, staleness_of
from ktr.types import Experience, PromptInputs, RolloutGroup, TokenScores, TokenWeights


class VideoRLModule(PolicyModule):
    """Policy, reference and engine, and the step that trains the policy from its own rollouts.

    ``sampling`` is that of the training rollouts. ``updates_per_rollout`` > 1 takes several optimizer steps on each
    batch of rollouts, with the clip acting from the second on; from the first where the engine overlaps. ``seed``, the
    step and the question fix every draw, on any number of ranks. The rest is ``PolicyModule``'s.
    """

    def __init__(
        self,
        policy: QwenVLPolicy,
        engine: RolloutEngine,
        scorer: GroupScorer,
        reward: CompositeReward,
        advantage: GroupAdvantage,
        weighting: TokenWeighting,
        loss: ClippedSurrogate,
        optimizer: AdamWCosine,
        sampling: SamplingParams,
        validation_sampling: Mapping[str, SamplingParams],
        failure_dir: str | Path,
        reference: Reference | None = None,
        updates_per_rollout: int = 1,
        seed: int = 0,
    ):
        super().__init__(policy, engine, reward, optimizer, validation_sampling, failure_dir, seed)
        if loss.needs_reference and reference is None:
            raise ValueError("loss.beta > 0 needs a reference policy")
        if engine.overlap * updates_per_rollout > engine.max_staleness:
            raise ConfigError(
                f"rollout.max_staleness={engine.max_staleness}: with rollout.overlap={engine.overlap} and "
                f"updates_per_rollout={updates_per_rollout} completions are {engine.overlap * updates_per_rollout} "
                "updates old when they are learned from; raise the bound, or set rollout.overlap=0"
            )
        if engine.overlap and reward.reads_selection:
            raise ConfigError("a reward that counts selected tokens (count=selected) needs rollout.overlap=0")
        self.scorer = scorer
        self.advantage = advantage
        self.weighting = weighting
        self.loss = loss
        self.sampling = sampling
        self.updates_per_rollout = updates_per_rollout
        self.num_rollout_steps = 0
        self.sampler = ContrastSampler(engine, reward.contrast, policy.temporal_patch_size)
        self.ahead = RolloutsAhead(self.sampler, sampling)
        self._reference = (reference,)  # in a tuple: its weights are no part of this module

    def training_step(self, batch: list[PromptInputs], batch_idx: int) -> dict[str, Any]:
        clock = StepClock()
        with self.ahead:  # no generation outlives the step that started it
            rollouts = self.ahead.take(batch)
            if rollouts is None:
                rollouts = self._generate(batch)
                clock.mark("rollout")
            staleness = self._staleness(rollouts)
            self._start_next()
            experiences = [self.judge(group) for group in rollouts.groups]

            features = self.policy.encode_video(batch) if rollouts.features is None else rollouts.features
            kept = self._kept(experiences)
            learned = self._score_without_gradient([experiences[i] for i in kept], [features[i] for i in kept])
            learned.old_logps = {j: rollouts.old_logps[i] for j, i in enumerate(kept) if i in rollouts.old_logps}
            counts = self._global_counts(rollouts.groups)
            clock.mark("views")

            metrics: dict[str, Tensor] = {}
            for update in range(self.updates_per_rollout):
                if update > 0 and self.policy.trains_vision:
                    learned.features = self.policy.encode_video([e.group.prompt for e in learned.experiences])
                self.policy.zero_grad()
                metrics = loss_metrics(self._backward(learned, counts), self.device)
                if update == 0:
                    self._finish_next(clock)  # under the weights that sampled: before they change
                metrics = self.take_step(metrics, experiences)
            clock.mark("update")

        self.num_rollout_steps += 1
        self.engine.load_weights(self.policy.named_weights(), version=self.global_step)
        clock.mark("weight_push")
        metrics |= engine_metrics(learned, staleness, self.engine.correction is not None, self.device)
        self.log_dict(metrics | {"step": float(self.global_step)})
        self.log_dict(rollout_metrics(experiences), sync_dist=True)
        return {
            "loss": metrics["loss/total"],
            "experiences": experiences,
            "learned": learned,
            "seconds": clock.seconds,
        }

    def on_train_end(self) -> None:
        self.ahead.close()

    def _generate(self, prompts: list[PromptInputs]) -> Rollouts:
        seeds = [self._seed(prompt) for prompt in prompts]
        features = self.policy.encode_video(prompts)  # the tower's only run, with gradient if it is trained
        self.policy.eval()  # in training mode gradient checkpointing would switch the engine's cache off
        with self.policy.reusing_features(prompts, features):
            groups = self.sampler.generate(prompts, self.sampling, seeds)
        if self.reward.reads_selection:
            groups = with_num_selected(groups, self.weighting, self.scorer, self.policy, features, seeds)
        return Rollouts(groups, features)

    def _start_next(self) -> None:
        """Where the engine overlaps, have it answer the next batch while this one is learned from."""
        last = 0 <= self.trainer.max_steps <= self.global_step + self.updates_per_rollout
        if not self.engine.overlap or last:
            return
        upcoming = cast(TrainLoader, self.trainer.train_dataloader).peek()
        if upcoming is not None:
            self.ahead.start(upcoming, [self._seed(prompt, steps_ahead=1) for prompt in upcoming])

    @torch.no_grad()
    def _finish_next(self, clock: StepClock) -> None:
        """Wait for the next batch's groups, and score those that will be learned from under the present weights."""
        clock.mark("update")
        groups = self.ahead.join()
        if groups is None:
            return
        clock.mark("rollout_wait")
        features = self.policy.encode_video([group.prompt for group in groups])
        kept = self._kept([self.judge(group) for group in groups])
        scores = self.scorer.score(
            self.policy, [groups[i] for i in kept], [features[i] for i in kept], Factual(), [0] * len(kept)
        )
        old_logps = {i: score.logps_GT for i, score in zip(kept, scores, strict=True)}
        self.ahead.keep(Rollouts(groups, None if self.policy.trains_vision else features, old_logps))
        clock.mark("old_logps")

    def _staleness(self, rollouts: Rollouts) -> list[int]:
        """Updates since each completion was sampled. Raises EngineError above ``engine.max_staleness``."""
        staleness = staleness_of(rollouts.groups, self.global_step)
        if max(staleness) > self.engine.max_staleness:
            raise EngineError(
                type(self.engine).__name__,
                f"sampled from weights {max(staleness)} updates old (version {self.global_step - max(staleness)}, the "
                f"policy is at {self.global_step}), rollout.max_staleness={self.engine.max_staleness}",
                "it missed a weight push: resume the run, or raise rollout.max_staleness",
            )
        return staleness

    def judge(self, group: RolloutGroup) -> Experience:
        """The group with its rewards and advantages."""
        parts, rewards_G = self.reward(group)
        return Experience(group, parts, rewards_G, self.advantage(rewards_G))

    def _kept(self, experiences: Sequence[Experience]) -> list[int]:
        """No pass whose result can't matter: without a KL term a group of equal rewards has no gradient."""
        return [i for i, e in enumerate(experiences) if e.has_signal or self.loss.needs_reference]

    @torch.no_grad()
    def _score_without_gradient(
        self, experiences: list[Experience], features: list[Float[Tensor, "_ D"]]
    ) -> ScoredBatch:
        """Each counterfactual view that a group's signals require, once, and the reference where the loss needs it."""
        groups = [experience.group for experience in experiences]
        required = [
            self.weighting.required_views(e.group.question.data_type) if self._needs_weights(e) else ()
            for e in experiences
        ]
        seeds = [self._seed(group.prompt) for group in groups]
        detached = [feature.detach() for feature in features]
        views = self.scorer.score_views(self.policy, groups, detached, required, seeds)
        ref_logps: list[Tensor | None] = [None] * len(groups)
        if self.loss.needs_reference and self._reference[0] is not None:
            ref_logps = list(self._reference[0].logps(self.scorer, groups, features))
        weighting = fit_to_batch(self.weighting, self.scorer, self.policy, groups, detached)
        return ScoredBatch(experiences, features, views, ref_logps, weighting=weighting)

    def _backward(self, batch: ScoredBatch, counts: tuple[int, int]) -> list[LossTerms]:
        """Score the factual view with gradient, weigh its tokens, and run the loss backward, a packed row at a time."""
        self.policy.train()
        terms: list[LossTerms] = []
        leaves = cut_graph(batch.features)  # packed rows share the tower's graph
        groups = [experience.group for experience in batch.experiences]
        for row in self.scorer.split(groups):
            scores = self.scorer.score_pass(
                self.policy,
                [groups[i] for i in row],
                [leaves[i] for i in row],
                views=[Factual()] * len(row),
                seeds=[0] * len(row),
                entropy=True,
            )
            row_terms = [self._loss_of_group(batch, i, score, counts) for i, score in zip(row, scores, strict=True)]
            self.manual_backward(torch.stack([term.loss for term in row_terms]).sum())
            terms += row_terms
        backward_through_cut(batch.features, leaves)
        self.policy.eval()
        return terms

    def _loss_of_group(self, batch: ScoredBatch, i: int, scores: TokenScores, counts: tuple[int, int]) -> LossTerms:
        experience = batch.experiences[i]
        mask_GT = experience.group.completion_mask_GT.to(scores.logps_GT.device)
        if i not in batch.factual:  # the first update
            ids_GT = experience.group.completion_ids_GT.to(mask_GT.device)
            batch.factual[i] = scores.detach()
            self._compare_with_engine(batch, i, mask_GT)
            if self._needs_weights(experience):
                eos_GT = mask_GT & (ids_GT == self.policy.eos_token_id)
                batch.weights[i] = batch.weighting(scores, batch.views[i], mask_GT, eos_GT)
            else:
                batch.weights[i] = TokenWeights(torch.zeros_like(scores.logps_GT))
        weights, batch.weights[i] = batch.weights[i], batch.weights[i].detach()
        return self.loss(
            scores.logps_GT,
            batch.old_logps[i],
            batch.ref_logps[i],
            experience.advantages_G.to(mask_GT.device),
            mask_GT,
            weights.weights_GT,
            *counts,
            importance_GT=batch.importance.get(i),
        )

    def _compare_with_engine(self, batch: ScoredBatch, i: int, mask_GT: Bool[Tensor, "G T"]) -> None:
        """Old log-probs against the engine's; where none are given, the policy is still the one that sampled."""
        old_GT = batch.old_logps.setdefault(i, batch.factual[i].logps_GT).to(mask_GT.device)
        engine_GT = batch.experiences[i].group.engine_logps_GT.to(mask_GT.device)
        batch.old_logps[i] = old_GT
        batch.mismatches[i] = mismatch(old_GT, engine_GT, mask_GT)
        if self.engine.correction is not None:
            batch.importance[i] = self.engine.correction(old_GT, engine_GT, mask_GT)

    def _needs_weights(self, experience: Experience) -> bool:
        return experience.has_signal or self.loss.weighs_without_advantage

    def _global_counts(self, groups: Sequence[RolloutGroup]) -> tuple[int, int]:
        """Completions and completion tokens of the global batch, what losses are divided by."""
        num_sequences = sum(len(group.completions) for group in groups)
        num_tokens = sum(len(completion.token_ids_T) for group in groups for completion in group.completions)
        counts = sum_over_ranks(torch.tensor([num_sequences, num_tokens], device=self.device)).tolist()
        return counts[0], counts[1]

    def _seed(self, prompt: PromptInputs, steps_ahead: int = 0) -> int:
        """The seed of everything random about a question in this step, whichever rank holds it."""
        return zlib.crc32(f"{self.seed}/{self.num_rollout_steps + steps_ahead}/{prompt.question.id}".encode())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["num_rollout_steps"] = self.num_rollout_steps
        checkpoint["rollouts_ahead"] = self.ahead.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.num_rollout_steps = checkpoint["num_rollout_steps"]
        self.ahead.load_state_dict(checkpoint.get("rollouts_ahead", []))
