"""Several groups in one packed row: ``[prompt_1 | o_11 | … | o_1G | prompt_2 | …]``, no padding, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ktr.policy.prefix_attention import GroupSpan, PackedLayout
from ktr.scoring.views import PromptView
from ktr.types import RolloutGroup


@dataclass(frozen=True)
class PackedRow:
    """One row of L tokens: ids, positions, the features for its visual placeholders, and its layout.

    ``predictors_N`` are the rows whose hidden state predicts a generated token and ``targets_N`` those tokens, in the
    order of the groups' completion masks; padding and prompt tokens are in neither.
    """

    input_ids_L: Int[Tensor, " L"]
    positions_3L: Int[Tensor, "3 L"]
    features_ND: Float[Tensor, "N D"]
    layout: PackedLayout
    predictors_N: Int[Tensor, " M"]
    targets_N: Int[Tensor, " M"]
    masks: tuple[Bool[Tensor, "_ _"], ...]

    @cached_property
    def group_sizes(self) -> list[int]:
        return [int(mask.sum()) for mask in self.masks]

    def unpack(self, values_N: Float[Tensor, " M"]) -> list[Float[Tensor, "_ _"]]:
        """Values of the predicted tokens back in each group's (G, T) shape, zero on padding."""
        return [
            values.new_zeros(mask.shape).masked_scatter(mask.to(values.device), values)
            for mask, values in zip(self.masks, values_N.split(self.group_sizes), strict=True)
        ]


def pack(groups: Sequence[RolloutGroup], prompts: Sequence[PromptView]) -> PackedRow:
    """Pack ``groups``, each behind its prompt as a view shows it."""
    ids, positions, spans, predictors, targets = [], [], [], [], []
    start = 0
    for group, prompt in zip(groups, prompts, strict=True):
        completions = [completion.token_ids_T for completion in group.completions]
        lengths_G = torch.tensor([len(ids_T) for ids_T in completions])
        span = GroupSpan(start, len(prompt.input_ids_P), tuple(lengths_G.tolist()))
        spans.append(span)
        ids += [prompt.input_ids_P, *completions]
        # Every completion follows the prompt, whatever its place in the row.
        follow = torch.cat([torch.arange(len(ids_T)) for ids_T in completions]) + prompt.next_position
        positions += [prompt.positions_3P, follow.expand(3, -1)]
        # Token t is predicted by the row before it: the completion's token t-1, or the prompt's last for t = 0.
        rows_N = torch.arange(span.completions_start, span.stop) - 1
        rows_N[lengths_G.cumsum(0) - lengths_G] = span.completions_start - 1
        predictors.append(rows_N)
        targets += completions
        start = span.stop
    return PackedRow(
        input_ids_L=torch.cat(ids),
        positions_3L=torch.cat(positions, dim=1),
        features_ND=torch.cat([prompt.features_ND for prompt in prompts]),
        layout=PackedLayout(tuple(spans)),
        predictors_N=torch.cat(predictors),
        targets_N=torch.cat(targets),
        masks=tuple(group.completion_mask_GT for group in groups),
    )


def split_by_tokens(groups: Sequence[RolloutGroup], max_tokens: int) -> list[list[int]]:
    """Indices of the groups of each packed row: in order, as many as fit ``max_tokens``, at least one."""
    rows: list[list[int]] = []
    room = 0
    for index, group in enumerate(groups):
        num_tokens = group.prompt.num_tokens + sum(len(completion.token_ids_T) for completion in group.completions)
        if not rows or num_tokens > room:
            rows.append([])
            room = max_tokens
        rows[-1].append(index)
        room -= num_tokens
    return rows
