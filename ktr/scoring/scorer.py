"""Teacher-forced scores of rollout groups under any view: one pass of the language model per packed row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.entropy_minority import BatchWeighting
from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import Factual, View
from ktr.policy.family import Policy
from ktr.scoring.packing import pack, split_by_tokens, unpack
from ktr.scoring.views import apply_view
from ktr.types import Distributions, RolloutGroup, TokenScores, TokenWeights


@dataclass
class GroupScorer:
    """Scores groups with a policy.

    ``temperature`` is that of the rollouts, so that log-probs are of the distribution that was sampled; of greedy ones,
    0, they are those at 1, as an engine's are. ``chunk_size`` rows of logits exist at a time; a packed row holds up to
    ``max_tokens_per_pass`` tokens.
    """

    temperature: float = 1.0
    chunk_size: int = 512
    max_tokens_per_pass: int = 16384

    def __post_init__(self) -> None:
        self.temperature = self.temperature or 1.0

    def split(self, groups: Sequence[RolloutGroup]) -> list[list[int]]:
        """Indices of the groups that are scored together, each list one pass."""
        return split_by_tokens(groups, self.max_tokens_per_pass)

    def score_pass(
        self,
        policy: Policy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ F"]],
        views: Sequence[View],
        seeds: Sequence[int],
        entropy: bool = False,
    ) -> list[TokenScores]:
        """Scores of ``groups`` in one packed row, group i under ``views[i]``; with gradient where grad mode is on.

        ``features`` are the tower's, one per group; ``seeds`` fix what is random in a view.
        """
        prompts = [
            apply_view(view, policy, group.prompt, feature, seed)
            for view, group, feature, seed in zip(views, groups, features, seeds, strict=True)
        ]
        logps_M, entropies_M, hidden_MD = policy.score_row(
            pack(groups, prompts), self.temperature, self.chunk_size, entropy
        )
        logps = unpack(groups, logps_M)
        entropies = [None] * len(groups) if entropies_M is None else unpack(groups, entropies_M)
        # The rows go along (the views' and the factual ones meet in ``distances``), the logits never do.
        distributions = [
            Distributions(
                rows_ND, policy.head, group.completion_mask_GT, policy.banned_ids, self.temperature, self.chunk_size
            )
            for group, rows_ND in zip(groups, hidden_MD.split([group.num_tokens for group in groups]), strict=True)
        ]
        return [TokenScores(*parts) for parts in zip(logps, entropies, distributions, strict=True)]

    @torch.no_grad()
    def score(
        self,
        policy: Policy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ F"]],
        view: View,
        seeds: Sequence[int],
        entropy: bool = False,
    ) -> list[TokenScores]:
        """Scores of all groups under one view, without gradient, in as many passes as their tokens need."""
        scores: list[TokenScores] = []
        for row in self.split(groups):
            scores += self.score_pass(
                policy,
                [groups[i] for i in row],
                [features[i] for i in row],
                [view] * len(row),
                [seeds[i] for i in row],
                entropy,
            )
        return scores

    @torch.no_grad()
    def score_views(
        self,
        policy: Policy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ F"]],
        required: Sequence[Sequence[View]],
        seeds: Sequence[int],
    ) -> list[dict[View, TokenScores]]:
        """Scores of each group under the views it requires; groups that require the same view are scored together."""
        scores: list[dict[View, TokenScores]] = [{} for _ in groups]
        for view in dict.fromkeys(view for views in required for view in views):
            seen = [i for i, views in enumerate(required) if view in views]
            under_view = self.score(
                policy, [groups[i] for i in seen], [features[i] for i in seen], view, [seeds[i] for i in seen]
            )
            for i, score in zip(seen, under_view, strict=True):
                scores[i][view] = score
        return scores

    @torch.no_grad()
    def fit(
        self,
        policy: Policy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ F"]],
        weighting: TokenWeighting,
        gather: Callable[[list[Tensor]], list[Tensor]] = list,
    ) -> TokenWeighting:
        """The weighting, or, where it depends on the batch, what it is for ``groups``.

        ``gather`` adds what other ranks have of a batch: then to be called on all of them.
        """
        if not isinstance(weighting, BatchWeighting):
            return weighting
        scores = self.score(policy, groups, features, Factual(), [0] * len(groups), entropy=True)
        entropies = [
            score.entropies_GT.cpu()[group.completion_mask_GT]
            for score, group in zip(scores, groups, strict=True)
            if score.entropies_GT is not None
        ]
        return weighting.for_batch(gather(entropies))

    @torch.no_grad()
    def weigh(
        self,
        policy: Policy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ F"]],
        weighting: TokenWeighting,
        seeds: Sequence[int],
    ) -> list[tuple[GroupScores, TokenWeights]]:
        """Scores of each group under every view, and the weights that they lead to, outside of an update."""
        required = [weighting.required_views(group.prompt.media) for group in groups]
        views = self.score_views(policy, groups, features, required, seeds)
        factual = self.score(policy, groups, features, Factual(), seeds, entropy=True)
        scored = [
            GroupScores.of(group, scores, of_group, policy.eos_token_ids, seed)
            for group, scores, of_group, seed in zip(groups, factual, views, seeds, strict=True)
        ]
        return [(scores, weighting(scores)) for scores in scored]
