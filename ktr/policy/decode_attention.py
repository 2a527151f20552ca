"""Attention of one new token a row, behind its completion and a prompt that the rows of a group share.

A prompt's keys and values are held once, and read once a token for all of its rows: their query heads are the queries
of one product. Copied for each completion, as a batched ``generate`` has them, they are G times the cache, and
transformers' sdpa path copies them once more for every query head.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class SharedPrompts:
    """Keys and values of B prompts in each layer, and the rows behind them.

    Prompt b has the rows ``rows_BG[b]``; what there is beyond its own is any row. Row n stands there at
    ``places_2N[:, n]``. ``visible_B11P`` is False on padding.
    """

    layers: Sequence[tuple[Float[Tensor, "B K P d"], Float[Tensor, "B K P d"]]]
    visible_B11P: Bool[Tensor, "B 1 1 P"]
    rows_BG: Int[Tensor, "B G"]
    places_2N: Int[Tensor, "2 N"]


def attend_behind_prompts(
    query: Float[Tensor, "N H 1 d"],
    key: Float[Tensor, "N K T d"],
    value: Float[Tensor, "N K T d"],
    prompts: SharedPrompts,
    layer: int,
    scaling: float | None,
) -> Float[Tensor, "N 1 H d"]:
    """Softmax attention of each row over its prompt and its T own tokens; scores and softmax are in fp32.

    Query heads that share a key-value head follow each other.
    """
    (num_rows, num_heads, _, width), num_own, dtype = query.shape, key.shape[2], value.dtype
    prompt_key, prompt_value = prompts.layers[layer]
    num_prompts, num_kv_heads, prompt_length = prompt_key.shape[:3]
    owner_N, place_N = prompts.places_2N
    of_prompts = num_prompts, num_kv_heads, prompts.rows_BG.shape[1], num_heads // num_kv_heads
    with torch.autocast(query.device.type, enabled=False):  # it would round the scores
        query = query.to(dtype).view(num_rows, num_kv_heads, -1, width)
        query_BKQd = query[prompts.rows_BG].transpose(1, 2).reshape(num_prompts, num_kv_heads, -1, width)
        of_prompt = _product(query_BKQd, prompt_key.mT).masked_fill_(~prompts.visible_B11P, -torch.inf)
        of_own = _product(query, key.mT)[prompts.rows_BG].transpose(1, 2)
        scores = torch.cat([of_prompt.view(*of_prompts, prompt_length), of_own], -1).mul_(scaling or width**-0.5)
        weights = scores.softmax(-1).to(dtype)
        of_prompt, of_own = weights.split([prompt_length, num_own], -1)
        out = _product(of_prompt.flatten(2, 3), prompt_value).view(*of_prompts, width).transpose(1, 2)[owner_N, place_N]
        out += _product(of_own.transpose(1, 2)[owner_N, place_N], value)
    return out.to(dtype).reshape(num_rows, 1, num_heads, width)


def _product(a: Float[Tensor, "N K q x"], b: Float[Tensor, "N K x y"]) -> Float[Tensor, "N K q y"]:
    """Matrix products in fp32, of halves too: a GPU sums them so, and would round the sums."""
    shape, a, b = (*a.shape[:3], b.shape[-1]), a.flatten(0, 1), b.flatten(0, 1)
    if a.is_cuda and a.dtype != torch.float32:
        return torch.bmm(a, b, out_dtype=torch.float32).view(shape)
    return torch.bmm(a.float(), b.float()).view(shape)
