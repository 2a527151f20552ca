"""From judged rollouts to gradients: what is scored once without gradient, then a pass with gradient an update.

prepare    masked video │ shuffled frames │ reference ─► scored groups          (only what this run's parts ask for)
backward   the video as it is ─► log-probs, entropies ─► token weights ─► loss ─► gradients of the policy
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from ktr.algorithm.importance import ImportanceCorrection, mismatch
from ktr.algorithm.loss import ClippedSurrogate, LossTerms
from ktr.algorithm.scored_group import FirstUpdate, ScoredGroup
from ktr.algorithm.token_baseline import TokenAdvantage
from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import Factual, View
from ktr.policy.family import Policy
from ktr.ranks import gather_over_ranks, sum_over_ranks
from ktr.scoring.reference import Reference
from ktr.scoring.scorer import GroupScorer
from ktr.training.equal_passes import OwnPasses
from ktr.training.feature_graph import Features, cut_graph
from ktr.types import Experience, RolloutGroup, TokenScores, TokenWeights


@dataclass
class Learner:
    """Scores and weighs groups of ``policy``'s rollouts and runs their loss backward.

    No pass whose result cannot matter: without a KL term a group of equal rewards is left out, and no view is scored of
    a group whose weights multiply zero. ``correction`` is the engine's; ``passes`` are shared with other ranks, or not.
    ``token_advantage`` makes advantages of tokens, in place of those of completions.
    """

    policy: Policy
    scorer: GroupScorer
    weighting: TokenWeighting
    loss: ClippedSurrogate
    reference: Reference | None
    correction: ImportanceCorrection | None
    token_advantage: TokenAdvantage | None = None
    passes: OwnPasses = field(default_factory=OwnPasses)

    def __post_init__(self) -> None:
        if self.loss.needs_reference and self.reference is None:
            raise ValueError("loss.beta > 0 needs a reference policy")

    def is_learned(self, experience: Experience) -> bool:
        """Whether a group can have a gradient."""
        return experience.has_signal or self.loss.learns_without_advantage

    @torch.no_grad()
    def sampled_logps(
        self, groups: Sequence[RolloutGroup], features: Features, learned: Sequence[bool]
    ) -> list[Tensor | None]:
        """Log-probs under the present weights, for rollouts that are ``learned`` from later; None of the others."""
        scored = [i for i, is_learned in enumerate(learned) if is_learned]
        scores = self.scorer.score(
            self.policy, [groups[i] for i in scored], [features[i] for i in scored], Factual(), seeds=[0] * len(scored)
        )
        self.passes.meet()
        logps: list[Tensor | None] = [None] * len(groups)
        for i, score in zip(scored, scores, strict=True):
            logps[i] = score.logps_GT
        return logps

    @torch.no_grad()
    def prepare(
        self,
        experiences: Sequence[Experience],
        features: Features,
        given_logps: Sequence[Tensor | None],
        seeds: Sequence[int],
    ) -> list[ScoredGroup]:
        """The groups that are learned from: each view that one's signals require, once, and the reference if needed.

        To be called on all ranks.
        """
        parts = zip(experiences, features, given_logps, seeds, strict=True)
        to_learn = [ScoredGroup(*of_group) for of_group in parts if self.is_learned(of_group[0])]
        groups = [scored.group for scored in to_learn]
        detached = [scored.features_NF.detach() for scored in to_learn]
        required = [self._required_views(scored) for scored in to_learn]
        views = self.scorer.score_views(self.policy, groups, detached, required, [scored.seed for scored in to_learn])
        ref_logps: Sequence[Tensor | None] = [None] * len(groups)
        if self.loss.needs_reference and self.reference is not None:
            ref_logps = self.reference.logps(self.scorer, groups, detached)
        weighting = self.scorer.fit(self.policy, groups, detached, self.weighting, self._gather)
        self.passes.meet()
        for scored, of_group, ref_logps_GT in zip(to_learn, views, ref_logps, strict=True):
            scored.views, scored.ref_logps_GT = of_group, ref_logps_GT
            scored.weighting = weighting if self._needs_weights(scored) else None
        return to_learn

    def backward(
        self,
        to_learn: Sequence[ScoredGroup],
        counts: tuple[int, int],
        run_backward: Callable[[Tensor], None],
        all_counts: tuple[int, int] | None = None,
    ) -> list[LossTerms]:
        """Score the factual view with gradient, weigh its tokens, and run the loss backward, a packed row at a time.

        ``counts`` are the completions and completion tokens of the global batch, which losses are divided by, penalties
        by ``all_counts`` where those leave some out. In a later update of a batch, and where they have no graph, the
        features of a trained tower are encoded anew.
        """
        if self.policy.trains_vision and any(s.first or not s.features_NF.requires_grad for s in to_learn):
            prompts = [scored.group.prompt for scored in to_learn]
            for scored, features_NF in zip(to_learn, self.policy.encode_video(prompts), strict=True):
                scored.features_NF = features_NF
        self.policy.train()
        terms: list[LossTerms] = []
        features = [scored.features_NF for scored in to_learn]
        leaves = cut_graph(features)  # packed rows share the tower's graph
        groups = [scored.group for scored in to_learn]
        for row in self.scorer.split(groups):
            scores = self.scorer.score_pass(
                self.policy,
                [groups[i] for i in row],
                [leaves[i] for i in row],
                views=[Factual()] * len(row),
                seeds=[0] * len(row),
                entropy=True,
            )
            row_terms = [
                self._loss(to_learn[i], score, counts, all_counts) for i, score in zip(row, scores, strict=True)
            ]
            run_backward(torch.stack([term.loss for term in row_terms]).sum())
            terms += row_terms
        self.passes.backward_through_cut(features, leaves)
        self.passes.meet()
        self.policy.eval()
        return terms

    @torch.no_grad()
    def with_num_selected(
        self, groups: Sequence[RolloutGroup], features: Features, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """The groups with the number of tokens that have a weight in each completion.

        For rewards that count them: it scores the factual view and all others a second time. To be called on all ranks.
        """
        features = [feature.detach() for feature in features]
        weighting = self.scorer.fit(self.policy, groups, features, self.weighting, self._gather)
        weighed = self.scorer.weigh(self.policy, groups, features, weighting, seeds)
        self.passes.meet()
        return [
            replace(group, num_selected_G=(weights.weights_GT != 0).sum(1).cpu())
            for group, (_, weights) in zip(groups, weighed, strict=True)
        ]

    def _loss(
        self,
        scored: ScoredGroup,
        scores: TokenScores,
        counts: tuple[int, int],
        all_counts: tuple[int, int] | None,
    ) -> LossTerms:
        mask_GT = scored.group.completion_mask_GT.to(scores.logps_GT.device)
        if (first := scored.first) is None:
            first = self._first_update(scored, scores, mask_GT)
            scored.first = replace(first, weights=first.weights.detach())
        return self.loss(
            scores.logps_GT,
            first.old_logps_GT,
            scored.ref_logps_GT,
            first.advantages,
            mask_GT,
            first.weights.weights_GT,
            *counts,
            importance_GT=first.importance_GT,
            views=scored.views,
            all_counts=all_counts,
        )

    def _first_update(self, scored: ScoredGroup, scores: TokenScores, mask_GT: Bool[Tensor, "G T"]) -> FirstUpdate:
        """The weights of a group's tokens, with a gradient if their weighting has one, and how far the engine is."""
        weights = TokenWeights(torch.zeros_like(scores.logps_GT))
        if scored.weighting is not None:
            eos = self.policy.eos_token_ids
            weights = scored.weighting(GroupScores.of(scored.group, scores, scored.views, eos, scored.seed))
        old_GT, engine_GT = scored.old_logps(scores), scored.group.engine_logps_GT.to(mask_GT.device)
        importance_GT = None if self.correction is None else self.correction(old_GT, engine_GT, mask_GT)
        advantages = scored.experience.advantages_G.to(mask_GT.device)
        if self.token_advantage is not None:
            advantages = self.token_advantage.of_tokens(scored.experience.rewards_G, scores, mask_GT)
        apart = mismatch(old_GT, engine_GT, mask_GT)
        return FirstUpdate(scores.detach(), weights, old_GT, advantages, apart, importance_GT)

    def _required_views(self, scored: ScoredGroup) -> tuple[View, ...]:
        media = scored.group.prompt.media
        of_weights = self.weighting.required_views(media) if self._needs_weights(scored) else ()
        return tuple(dict.fromkeys([*of_weights, *self.loss.required_views(media)]))

    def _gather(self, items: list[Tensor]) -> list[Tensor]:
        self.passes.meet()
        return gather_over_ranks(items)

    def _needs_weights(self, scored: ScoredGroup) -> bool:
        return scored.experience.has_signal or self.loss.weighs_without_advantage


def global_counts(
    experiences: Sequence[Experience], device: torch.device, with_truncated: bool = True
) -> tuple[int, int]:
    """Completions and completion tokens of the global batch, what losses are divided by; 1 at least.

    Without those that were cut at the longest length where they are not ``with_truncated``.
    """
    completions = [completion for experience in experiences for completion in experience.group.completions]
    counted = [c for c in completions if with_truncated or c.finish_reason == "stop"]
    counts = [len(counted), sum(len(completion.token_ids_T) for completion in counted)]
    num_sequences, num_tokens = sum_over_ranks(torch.tensor(counts, device=device)).tolist()
    return max(1, num_sequences), max(1, num_tokens)
