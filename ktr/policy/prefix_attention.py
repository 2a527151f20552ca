"""Attention over packed groups: the prompt is computed once and all of its completions attend to it.

A packed row is ``[prompt_1 | o_11 | … | o_1G | prompt_2 | o_21 | …]``. Each completion attends to its own prompt and
causally to itself, never to its siblings nor to another group. The function is registered with transformers'
AttentionInterface and is told the layout by a plain keyword, ``layout``, that the language model hands through to
every layer. Per group it makes two calls: causal attention over the prompt, and a batch of G over [prompt KV + own KV]
with the causal diagonal aligned to the lower right. No mask of the row's length squared exists.

Told by the keyword ``prompts`` that each row is one new token behind a shared prompt, it is
``ktr.policy.decode_attention``; told neither (a plain forward) transformers' own of the same backend.
"""

import itertools
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask, sdpa_mask

from ktr.policy.decode_attention import SharedPrompts, attend_behind_prompts
from ktr.policy.packed_row import PackedLayout

BACKENDS = ("sdpa", "flash_attention_2")


def attention_name(backend: str) -> str:
    """The name under which ``backend`` is registered with transformers."""
    if backend not in BACKENDS:
        raise ValueError(f"attention backend {backend!r} is not one of {BACKENDS}")
    # transformers looks for the word flash in this name to decide how generation masks are made.
    return f"ktr_prefix_{backend}"


def prefix_sdpa(
    module: nn.Module,
    query: Float[Tensor, "B H L d"],
    key: Float[Tensor, "B K S d"],
    value: Float[Tensor, "B K S d"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: PackedLayout | None = None,
    prompts: SharedPrompts | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "B L H d"], None]:
    """Packed-group attention on ``scaled_dot_product_attention``: the result of G full rows of prompt + completion."""
    if prompts is not None:
        return attend_behind_prompts(query, key, value, prompts, cast(int, module.layer_idx), scaling), None
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    # Under autocast the rotary embedding leaves q and k in fp32, and CausalBias does not take part in autocast.
    query, key = query.to(value.dtype), key.to(value.dtype)
    # Split and not sliced: behind a slice the backward pass would fill a tensor of the whole row for each group.
    sizes = [span.stop - span.start for span in layout.spans]
    outputs = []
    for span, q, k, v in zip(
        layout.spans, query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True
    ):
        if span.num_completions <= 1:  # one completion is one causal row, and so is a prompt alone
            outputs.append(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True))
            continue
        parts = [span.prompt_length, span.stop - span.completions_start]
        (q_prompt, q), (k_prompt, k), (v_prompt, v) = (x.split(parts, 2) for x in (q, k, v))
        prompt_out = F.scaled_dot_product_attention(
            q_prompt, k_prompt, v_prompt, is_causal=True, scale=scaling, enable_gqa=True
        )
        rows_GT, places_N = (index.to(query.device, non_blocking=True) for index in span.padded)
        q, k, v = (
            x[0].transpose(0, 1).index_select(0, rows_GT).unflatten(0, (span.num_completions, -1)).transpose(1, 2)
            for x in (q, k, v)
        )
        k = torch.cat([k_prompt.expand(span.num_completions, -1, -1, -1), k], dim=2)
        v = torch.cat([v_prompt.expand(span.num_completions, -1, -1, -1), v], dim=2)
        bias = causal_lower_right(q.shape[2], k.shape[2])
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scaling, enable_gqa=True)
        out = out.transpose(1, 2).flatten(0, 1).index_select(0, places_N).transpose(0, 1)
        outputs += [prompt_out, out[None]]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def prefix_flash(
    module: nn.Module,
    query: Float[Tensor, "B H L d"],
    key: Float[Tensor, "B K S d"],
    value: Float[Tensor, "B K S d"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: PackedLayout | None = None,
    prompts: SharedPrompts | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "B L H d"], None]:
    """Packed-group attention on FlashAttention-2: two variable-length calls for all groups of the row.

    FlashAttention from 2.1 aligns the causal diagonal to the lower right when keys outnumber queries, which is what a
    completion behind its prompt needs.
    """
    if prompts is not None:  # one product a prompt, on either backend
        return prefix_sdpa(module, query, key, value, attention_mask, scaling, dropout, prompts=prompts, **kwargs)
    if layout is None:
        return flash_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

    # flash wants (tokens, heads, d) and half precision
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    prompt_rows = [range(s.start, s.completions_start) for s in layout.spans]
    completions = []
    for s in layout.spans:
        starts = itertools.accumulate(s.lengths, initial=s.completions_start)
        completions += [range(start, start + length) for start, length in zip(starts, s.lengths, strict=False)]
    owners = [prompt for prompt, s in zip(prompt_rows, layout.spans, strict=True) for _ in range(s.num_completions)]
    out = torch.empty_like(q)
    of_prompts = (prompt_rows, [[prompt] for prompt in prompt_rows])
    of_completions = (completions, [list(pair) for pair in zip(owners, completions, strict=True)])
    for rows, contexts in (of_prompts, of_completions) if completions else (of_prompts,):
        row_index = _indices(rows, q.device)
        key_index = _indices([part for context in contexts for part in context], q.device)
        lengths_q = [len(row) for row in rows]
        lengths_k = [sum(len(part) for part in context) for context in contexts]
        attended = flash_attn_varlen_func(
            q[row_index],
            k[key_index],
            v[key_index],
            _cumulative(lengths_q, q.device),
            _cumulative(lengths_k, q.device),
            max(lengths_q),
            max(lengths_k),
            softmax_scale=scaling,
            causal=True,
        )
        out = out.index_copy(0, row_index, attended)
    return out[None], None


def _indices(ranges: list[range], device: torch.device) -> Tensor:
    return torch.cat([torch.arange(r.start, r.stop) for r in ranges]).to(device, non_blocking=True)


def _cumulative(lengths: list[int], device: torch.device) -> Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(device, torch.int32, non_blocking=True)


# The mask functions are registered beside the attention: without them transformers drops padding masks in silence.
AttentionInterface.register(attention_name("sdpa"), prefix_sdpa)
AttentionMaskInterface.register(attention_name("sdpa"), sdpa_mask)
AttentionInterface.register(attention_name("flash_attention_2"), prefix_flash)
AttentionMaskInterface.register(attention_name("flash_attention_2"), flash_attention_mask)
