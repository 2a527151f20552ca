"""Attention of one new token a row behind its cache, with each key-value head read where it lies.

transformers' sdpa path copies keys and values for every query head as soon as it is given a mask, in every layer and at
every token: 7 times the cache of a 7B model. Here the query heads of a key-value head are the queries of one call.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def decode_sdpa(
    query: Float[Tensor, "N H 1 d"],
    key: Float[Tensor, "N K L d"],
    value: Float[Tensor, "N K L d"],
    visible: Bool[Tensor, "N 1 1 L"] | Float[Tensor, "N 1 1 L"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "N 1 H d"]:
    """``scaled_dot_product_attention`` of one token; query heads that share a key-value head follow each other."""
    by_head = query.reshape(len(query), key.shape[1], -1, query.shape[3])
    out = F.scaled_dot_product_attention(by_head, key, value, visible, dropout, scale=scaling)
    return out.reshape(len(query), 1, query.shape[1], -1)
