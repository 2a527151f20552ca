r"""All tokens count but those of the answer itself.

Which answer follows is settled by the reasoning before it where there is any, and a guess where there is none: in the
embedded worlds the tokens between the answer tags have a third of the gradient's noise, and no signal that could be
told from zero (docs/which_tokens.md). Their tags, which say that an answer is given, count.

Assumption: an answer is the text between the first ``<answer>`` after the thinking and the next ``</answer>``, or the
end; a completion without tags has none, and all of it counts. EOS is none of it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from ktr.algorithm.weighting import KeyTokens
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import Selection
from ktr.attribution.signals import Signal
from ktr.types import TokenWeights

OPENS, CLOSES, THOUGHT = "<answer>", "</answer>", "</think>"


class ReasoningTokens(KeyTokens):
    """``KeyTokens``, and 0 on the answer's tokens; with no signal on, 1 on all others.

    ``tokenizer`` is the policy's. Raises ``ValueError`` on scores that were made without a rollout.
    """

    def __init__(
        self,
        tokenizer: Any,
        signals: Mapping[str, Signal | None],
        selection: Selection,
        combine: Literal["max", "mean"] = "max",
    ) -> None:
        super().__init__(signals, selection, combine)
        self.tokenizer = tokenizer

    def __call__(self, group: GroupScores) -> TokenWeights:
        if group.rollout is None:
            raise ValueError("weighting=reasoning_tokens reads completions: give the scores their rollout")
        weights = super().__call__(group)
        kept_GT = torch.ones(weights.weights_GT.shape, dtype=torch.bool)
        for row, completion in enumerate(group.rollout.completions):
            kept_GT[row, slice(*answer_tokens(self.tokenizer, completion.token_ids_T.tolist()))] = False
        kept_GT = kept_GT.to(group.eos_GT.device) | group.eos_GT
        return replace(weights, weights_GT=torch.where(kept_GT, weights.weights_GT, 0.0))


def answer_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[int, int]:
    """The first token of the answer and the one after its last; two equal numbers where there is none."""
    text = tokenizer.decode(ids)
    opened = text.find(OPENS, text.rfind(THOUGHT) + 1)
    if opened < 0:
        return 0, 0
    start = opened + len(OPENS)
    end = closed if (closed := text.find(CLOSES, start)) >= 0 else len(text)
    start, end = start + len(text[start:end]) - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())
    if start >= end:
        return 0, 0

    def length(num_tokens: int) -> int:
        return len(tokenizer.decode(ids[:num_tokens]))

    places = range(len(ids) + 1)  # a token may hold an end of a tag and a start of the answer: then it is the answer's
    after = bisect_right(places, end, key=length) - 1  # of prefixes that end within a character: the one behind it
    return bisect_right(places, start, key=length) - 1, max(bisect_left(places, end, key=length), after)
