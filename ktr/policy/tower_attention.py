"""Attention of the vision tower with one call for all windows of a length.

The tower attends inside windows, or inside temporal patches. transformers' sdpa path makes a call for each, thousands
in a layer of a long video; its flash path makes one with the windows' boundaries. This function takes the flash path's
arguments and computes them with ``scaled_dot_product_attention``: windows of equal length are a batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface

# transformers hands over window boundaries to attention functions with "flash" in their name.
TOWER_SDPA = "ktr_flash_like_sdpa"


def tower_sdpa(
    module: nn.Module,
    query: Float[Tensor, "1 H N d"],
    key: Float[Tensor, "1 H N d"],
    value: Float[Tensor, "1 H N d"],
    attention_mask: None = None,
    scaling: float | None = None,
    cu_seq_lens_q: Int[Tensor, " W"] | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 N H d"], None]:
    """Bidirectional attention inside each window; ``cu_seq_lens_q`` are the windows' boundaries, from 0 to N."""
    assert cu_seq_lens_q is not None, "the tower always passes its windows"
    starts, lengths = cu_seq_lens_q[:-1].long(), cu_seq_lens_q.diff()
    out = torch.empty_like(query)
    for length in lengths.unique().tolist():
        rows_WT = starts[lengths == length][:, None] + torch.arange(length, device=query.device)
        q, k, v = (x[0, :, rows_WT].transpose(0, 1) for x in (query, key, value))  # (W, H, T, d)
        attended = F.scaled_dot_product_attention(q, k, v, scale=scaling)
        out = out.index_copy(2, rows_WT.flatten(), attended.transpose(0, 1).flatten(1, 2)[None])
    return out.transpose(1, 2), None


AttentionInterface.register(TOWER_SDPA, tower_sdpa)
