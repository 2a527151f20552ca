r"""Distances between the two predictive distributions of a token, a chunk of rows at a time.

p is the factual distribution of the next token over the whole vocabulary, q the one under a counterfactual view:

- l1:        Σ_v |p − q|                                         in [0, 2]
- l2:        (Σ_v (p − q)²)^½                                    in [0, √2]
- kl:        KL(p ‖ q) = Σ_v p (log p − log q)                   not symmetric, nats
- js:        ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q)/2            in [0, log 2], nats
- cosine:    1 − p·q / (‖p‖ ‖q‖)                                 in [0, 1]
- hellinger: (½ Σ_v (√p − √q)²)^½                                in [0, 1]

Video-KTR (arXiv 2601.19686) compares them with the difference of the sampled token's log-probs, which needs no full
distribution (``attribution.signals``). All are exactly 0 where the view changes nothing.

A view leaves its hidden rows behind (N·D numbers) and the factual pass brings its own: the distance costs one more
product with the head for each of the two, on completion rows only and without gradient, and no pass of the model. The
logits of both exist for ``chunk_size`` rows at a time.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.token_head import log_probs
from ktr.types import Distributions

FullDistance = Literal["l1", "l2", "kl", "js", "cosine", "hellinger"]
Measure = Callable[[Float[Tensor, "N V"], Float[Tensor, "N V"]], Float[Tensor, " N"]]


def _l1(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    return (log_p.exp() - log_q.exp()).abs().sum(-1)


def _l2(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    return (log_p.exp() - log_q.exp()).norm(dim=-1)


def _kl(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0)


def _js(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    # log(m/p) = log((1 + q/p)/2) = log1p(expm1(d)/2). Past d = 60 p is nothing, and exp(d) would overflow.
    d = (log_q - log_p).clamp(-60, 60)
    of_p = log_p.exp() * (torch.expm1(d) / 2).log1p()
    of_q = log_q.exp() * (torch.expm1(-d) / 2).log1p()
    return -(of_p + of_q).sum(-1).clamp(max=0) / 2


def _cosine(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    # 1 − cos = ½ ‖p/‖p‖ − q/‖q‖‖², without the cancellation.
    p, q = (torch.nn.functional.normalize(x.exp(), dim=-1) for x in (log_p, log_q))
    return (p - q).square().sum(-1) / 2


def _hellinger(log_p: Float[Tensor, "N V"], log_q: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    return ((log_p / 2).exp() - (log_q / 2).exp()).norm(dim=-1) / math.sqrt(2)


MEASURES: Mapping[str, Measure] = {
    "l1": _l1,
    "l2": _l2,
    "kl": _kl,
    "js": _js,
    "cosine": _cosine,
    "hellinger": _hellinger,
}


@torch.no_grad()
def distances(factual: Distributions, counterfactual: Distributions, distance: FullDistance) -> Float[Tensor, "G T"]:
    """The distance of each completion token, zero off the completion mask; in fp32 or better, without gradient."""
    p, q, measure = factual, counterfactual, MEASURES[distance]
    values = [p.hidden_ND.new_empty(0, dtype=torch.promote_types(p.hidden_ND.dtype, torch.float32))]
    for start in range(0, len(p.hidden_ND), p.chunk_size):
        rows = slice(start, start + p.chunk_size)
        values.append(measure(_finite(log_probs(p, rows)), _finite(log_probs(q, rows))))
    values_N, mask_GT = torch.cat(values), p.completion_mask_GT.to(p.hidden_ND.device)
    return values_N.new_zeros(mask_GT.shape).masked_scatter(mask_GT, values_N)


def _finite(log_p: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """A banned word has probability 0 in both, and −inf − (−inf) must be 0: its log-prob becomes finite, p stays 0."""
    return log_p.clamp_(min=-1e4)
