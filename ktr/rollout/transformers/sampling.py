"""The next word of each row, by inverse transform from one uniform number a row."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sampled_distribution(
    logits_NV: Float[Tensor, "N V"], banned_ids: Int[Tensor, " B"], temperature: float
) -> Float[Tensor, "N V"]:
    """Log-probs at ``temperature`` (1 where it is 0, greedy) with the banned ids left out, before top-p."""
    logits = logits_NV.float().index_fill(1, banned_ids, float("-inf"))
    return (logits / (temperature or 1.0)).log_softmax(-1)


def draw(
    logps_NV: Float[Tensor, "N V"], temperature: float, top_p: float, uniforms_N: Float[Tensor, " N"]
) -> Int[Tensor, " N"]:
    """The most likely word at temperature 0, else the word at which the cumulative probability passes the uniform.

    One number a word makes a row's sample independent of what else is in the batch. The sums are in fp64, so that rare
    words of a large vocabulary keep their share.
    """
    if temperature == 0:
        return logps_NV.argmax(-1)
    probs = logps_NV.double().exp()
    if top_p < 1:
        probs = _nucleus(probs, top_p)
    cumulative = probs.cumsum(-1)
    thresholds = uniforms_N.to(cumulative) * cumulative[:, -1]
    # right=True steps over words of probability zero; the clamp guards the last rounding
    return torch.searchsorted(cumulative, thresholds[:, None], right=True)[:, 0].clamp(max=probs.shape[-1] - 1)


def _nucleus(probs_NV: Float[Tensor, "N V"], top_p: float) -> Float[Tensor, "N V"]:
    """Zero all but the smallest set of most likely words whose probabilities sum to at least ``top_p``."""
    ordered, order = probs_NV.sort(dim=-1, descending=True)
    # a word stays if the words before it do not reach top_p: the one that crosses is kept
    ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0.0)
    return torch.zeros_like(probs_NV).scatter(-1, order, ordered)
