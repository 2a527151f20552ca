"""Teacher-forced scores of rollout groups under any view: one pass of the language model per packed row."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import Chance, View
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.chance import chance_scores
from ktr.scoring.packing import pack, split_by_tokens
from ktr.scoring.views import apply_view
from ktr.token_head import token_logps
from ktr.types import Distributions, RolloutGroup, TokenScores


class GroupScorer:
    """Scores groups with a policy.

    ``temperature`` is that of the rollouts, so that log-probs are of the distribution that was sampled. ``chunk_size``
    rows of logits exist at a time; a packed row holds up to ``max_tokens_per_pass`` tokens.
    """

    def __init__(self, temperature: float = 1.0, chunk_size: int = 512, max_tokens_per_pass: int = 16384):
        self.temperature = temperature
        self.chunk_size = chunk_size
        self.max_tokens_per_pass = max_tokens_per_pass

    def split(self, groups: Sequence[RolloutGroup]) -> list[list[int]]:
        """Indices of the groups that are scored together, each list one pass."""
        return split_by_tokens(groups, self.max_tokens_per_pass)

    def score_pass(
        self,
        policy: QwenVLPolicy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ D"]],
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
        row = pack(groups, prompts)
        hidden_ND = policy.hidden_states(row.input_ids_L, row.positions_3L, row.features_ND, row.layout)
        hidden_ND = hidden_ND[row.predictors_N.to(hidden_ND.device)]
        logps_N, entropies_N = token_logps(
            hidden_ND,
            policy.head_weight,
            row.targets_N.to(hidden_ND.device),
            policy.banned_ids,
            self.temperature,
            self.chunk_size,
            entropy,
        )
        logps = row.unpack(logps_N)
        entropies = [None] * len(logps) if entropies_N is None else row.unpack(entropies_N)
        # The rows go along (the views' and the factual ones meet in ``distances``), the logits never do.
        distributions = [
            Distributions(hidden, policy.head_weight, mask_GT, policy.banned_ids, self.temperature, self.chunk_size)
            for hidden, mask_GT in zip(hidden_ND.split(row.group_sizes), row.masks, strict=True)
        ]
        return [TokenScores(*parts) for parts in zip(logps, entropies, distributions, strict=True)]

    @torch.no_grad()
    def score(
        self,
        policy: QwenVLPolicy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ D"]],
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
        policy: QwenVLPolicy,
        groups: Sequence[RolloutGroup],
        features: Sequence[Float[Tensor, "_ D"]],
        required: Sequence[Sequence[View]],
        seeds: Sequence[int],
    ) -> list[dict[View, TokenScores]]:
        """Scores of each group under the views it requires; groups that require the same view are scored together."""
        scores: list[dict[View, TokenScores]] = [{} for _ in groups]
        for view in dict.fromkeys(view for views in required for view in views):
            seen = [i for i, views in enumerate(required) if view in views]
            if isinstance(view, Chance):
                for i in seen:
                    scores[i][view] = chance_scores(groups[i], seeds[i], policy.device)
                continue
            under_view = self.score(
                policy, [groups[i] for i in seen], [features[i] for i in seen], view, [seeds[i] for i in seen]
            )
            for i, score in zip(seen, under_view, strict=True):
                scores[i][view] = score
        return scores
