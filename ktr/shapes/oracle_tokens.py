"""Token weights that know the truth: what choosing tokens could gain at best, or lose."""

from collections.abc import Sequence

import torch

from ktr.algorithm.weighting import TokenWeighting
from ktr.attribution.group_scores import GroupScores
from ktr.errors import ConfigError, MissingData
from ktr.shapes.token_kinds import KINDS, token_kinds
from ktr.types import TokenWeights


class OracleTokens(TokenWeighting):
    """Weight 1 on the tokens of ``kinds`` (``ktr.shapes.token_kinds``), else 0.

    Raises ``ConfigError`` on a kind that there is not, and ``MissingData`` where the truth of a question is not known.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ConfigError(f"weighting.kinds: there is no {unknown[0]}; choose from {', '.join(KINDS)}")
        self.kinds = frozenset(kinds)

    def __call__(self, group: GroupScores) -> TokenWeights:
        kinds = None if group.rollout is None else token_kinds(group.rollout)
        if kinds is None:
            name = "of scores without a rollout" if group.rollout is None else group.rollout.question.id
            raise MissingData(
                f"weighting=oracle_tokens: the kinds of the words of {name} are not known; take the questions and the "
                "tokenizer of an embedded world (data=shapes), or another weighting"
            )
        width = group.completion_mask_GT.shape[1]
        chosen = [[kind in self.kinds for kind in of_one] + [False] * (width - len(of_one)) for of_one in kinds]
        chosen_GT = torch.tensor(chosen, device=group.completion_mask_GT.device)
        weights_GT = chosen_GT.to(group.factual.logps_GT.dtype)
        return TokenWeights(weights_GT, {"oracle": chosen_GT}, {"oracle": weights_GT})
