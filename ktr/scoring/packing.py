"""Groups as one packed row, and the values of its tokens back in each group's shape."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.policy.packed_row import GroupSpan, PackedLayout, PackedRow
from ktr.scoring.views import PromptView
from ktr.types import RolloutGroup


def pack(groups: Sequence[RolloutGroup], prompts: Sequence[PromptView]) -> PackedRow:
    """Pack ``groups``, each behind its prompt as a view shows it; every generated token, and no other, is a target."""
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
        features_NF=torch.cat([prompt.features_NF for prompt in prompts]),
        layout=PackedLayout(tuple(spans)),
        predictors_M=torch.cat(predictors),
        targets_M=torch.cat(targets),
    )


def unpack(groups: Sequence[RolloutGroup], values_M: Float[Tensor, " M"]) -> list[Float[Tensor, "_ _"]]:
    """Values of the generated tokens of a row of ``groups`` in each group's (G, T) shape, zero on padding."""
    masks = [group.completion_mask_GT.to(values_M.device) for group in groups]
    return [
        values.new_zeros(mask_GT.shape).masked_scatter(mask_GT, values)
        for mask_GT, values in zip(masks, values_M.split([group.num_tokens for group in groups]), strict=True)
    ]


def split_by_tokens(groups: Sequence[RolloutGroup], max_tokens: int) -> list[list[int]]:
    """Indices of the groups of each packed row: in order, as many as fit ``max_tokens``, at least one."""
    rows: list[list[int]] = []
    room = 0
    for index, group in enumerate(groups):
        num_tokens = group.prompt.num_tokens + group.num_tokens
        if not rows or num_tokens > room:
            rows.append([])
            room = max_tokens
        rows[-1].append(index)
        room -= num_tokens
    return rows
