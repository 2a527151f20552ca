"""Several groups in one row without padding: ``[prompt_1 | o_11 | … | o_1G | prompt_2 | o_21 | …]``."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class GroupSpan:
    """Where a group lies in the packed row: P prompt tokens from ``start``, then its completions, which may be none."""

    start: int
    prompt_length: int
    lengths: tuple[int, ...]

    @property
    def num_completions(self) -> int:
        return len(self.lengths)

    @property
    def completions_start(self) -> int:
        return self.start + self.prompt_length

    @property
    def stop(self) -> int:
        return self.completions_start + sum(self.lengths)

    @cached_property
    def padded(self) -> tuple[Int[Tensor, " GT"], Int[Tensor, " N"]]:
        """The completion row of each place of a padded (G, T) batch, and the place in it of each of the N rows.

        Padding repeats a completion's last row, which causal attention hides from every row before it.
        """
        lengths_G1 = torch.tensor(self.lengths)[:, None]
        steps_T = torch.arange(max(self.lengths))
        starts_G1 = lengths_G1.cumsum(0) - lengths_G1
        rows_GT = starts_G1 + torch.minimum(steps_T, lengths_G1 - 1)
        return rows_GT.flatten(), (steps_T < lengths_G1).flatten().nonzero()[:, 0]


@dataclass(frozen=True)
class PackedLayout:
    """The groups of a packed row, in order and without gaps."""

    spans: tuple[GroupSpan, ...]

    @cached_property
    def length(self) -> int:
        return self.spans[-1].stop


@dataclass(frozen=True)
class PackedRow:
    """One row of L tokens: ids, positions, the features for its visual placeholders, and its layout.

    ``predictors_M`` are the rows whose hidden state predicts a token and ``targets_M`` those tokens.
    """

    input_ids_L: Int[Tensor, " L"]
    positions_3L: Int[Tensor, "3 L"]
    features_NF: Float[Tensor, "N F"]
    layout: PackedLayout
    predictors_M: Int[Tensor, " M"]
    targets_M: Int[Tensor, " M"]
