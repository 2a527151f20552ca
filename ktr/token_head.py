"""Log-probs and entropies from hidden states, a chunk of rows at a time.

The (N, V) logits of a batch are the largest tensor of a training step (G·T·V: 3.5 GiB in fp32 for a group of 8 × 768 at
V = 152,064). Here they exist for ``chunk_size`` rows at a time and are computed again in the backward pass.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ktr.types import Distributions


def token_logps(
    hidden_ND: Float[Tensor, "N D"],
    weight_VD: Float[Tensor, "V D"],
    targets_N: Int[Tensor, " N"],
    banned_ids: Int[Tensor, " B"],
    temperature: float = 1.0,
    chunk_size: int = 512,
    entropy: bool = True,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"] | None]:
    """log p(target) with gradient, and the entropy of the distribution without, in fp32 or better.

    The distribution is softmax(h·Wᵀ / temperature) with ``banned_ids`` left out, as the rollout engine samples it.
    """
    # Autocast does not reach the backward of a custom function: cast here, once, and compute without it.
    hidden_ND, weight_VD = _as_autocast(hidden_ND), _as_autocast(weight_VD)
    with torch.autocast(hidden_ND.device.type, enabled=False):
        return _ChunkedLogps.apply(hidden_ND, weight_VD, targets_N, banned_ids, temperature, chunk_size, entropy)


def log_probs(distributions: Distributions, rows: slice | Int[Tensor, " n"]) -> Float[Tensor, "n V"]:
    """All log-probs of some rows of ``distributions``, in fp32 or better; −inf on the banned ids.

    They are those that ``token_logps`` scores. For a chunk of rows: the result has a row of V for each.
    """
    logits = distributions.head(distributions.hidden_ND[rows])
    return _sampled(logits, distributions.banned_ids, distributions.temperature).log_softmax(-1)


def token_ranks(distributions: Distributions, targets_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The place of each target among the words of the vocabulary: 1 is the likeliest; equals share the better place."""
    ranks = []
    for start in range(0, len(targets_N), distributions.chunk_size):
        rows = slice(start, start + distributions.chunk_size)
        logps_nV = log_probs(distributions, rows)
        ranks.append((logps_nV > logps_nV.gather(1, targets_N[rows, None])).sum(1) + 1)
    return torch.cat(ranks)


def sums_of_squares(distributions: Distributions) -> Float[Tensor, " N"]:
    """Σ_v p(v)² of each row, a chunk of rows at a time; without gradient."""
    sums = []
    for start in range(0, len(distributions.hidden_ND), distributions.chunk_size):
        rows = slice(start, start + distributions.chunk_size)
        with torch.no_grad():
            sums.append(log_probs(distributions, rows).mul(2).exp().sum(1))
    return torch.cat(sums)


def _as_autocast(tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The tensor in the precision that autocast would multiply it in, where autocast is on."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor


class _ChunkedLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        banned_ids: Tensor,
        temperature: float,
        chunk_size: int,
        entropy: bool,
    ) -> tuple[Tensor, Tensor | None]:
        logps, entropies = [], []
        for hidden, targets in zip(hidden_ND.split(chunk_size), targets_N.split(chunk_size), strict=True):
            logits = _logits(hidden, weight_VD, banned_ids, temperature)
            target_logits = logits.gather(1, targets[:, None])[:, 0]
            normalizer = logits.logsumexp(-1)
            logps.append(target_logits - normalizer)
            if entropy:
                probs = (logits - normalizer[:, None]).exp_()
                # H = log Z - Σ p·z; a banned word has p = 0 and z = -inf, and 0·(-inf) must be 0
                entropies.append(normalizer - torch.einsum("nv,nv->n", probs, logits.index_fill_(1, banned_ids, 0.0)))
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, banned_ids)
        ctx.temperature, ctx.chunk_size = temperature, chunk_size
        if not entropy:
            return torch.cat(logps), None
        entropies_N = torch.cat(entropies)
        ctx.mark_non_differentiable(entropies_N)
        return torch.cat(logps), entropies_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad_logps_N: Tensor = grad_outputs[0]
        hidden_ND, weight_VD, targets_N, banned_ids = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden_ND)
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets_N), ctx.chunk_size):
            rows = slice(start, start + ctx.chunk_size)
            grad = grad_logps_N[rows, None] / ctx.temperature
            # d logp / d logits = onehot(target) - softmax
            grad_logits = _logits(hidden_ND[rows], weight_VD, banned_ids, ctx.temperature).softmax(-1).mul_(-grad)
            grad_logits.scatter_add_(1, targets_N[rows, None], grad)
            grad_logits = grad_logits.to(hidden_ND.dtype)
            grad_hidden[rows] = grad_logits @ weight_VD
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.t(), hidden_ND[rows])
        return grad_hidden, grad_weight, None, None, None, None, None


def _logits(hidden_ND: Tensor, weight_VD: Tensor, banned_ids: Tensor, temperature: float) -> Tensor:
    return _sampled(hidden_ND @ weight_VD.t(), banned_ids, temperature)


def _sampled(logits_NV: Tensor, banned_ids: Tensor, temperature: float) -> Tensor:
    """The logits of the distribution that is sampled, in place where they are fp32 or better."""
    if logits_NV.dtype in (torch.float16, torch.bfloat16):
        logits_NV = logits_NV.float()
    if temperature != 1.0:
        logits_NV = logits_NV.div_(temperature)
    return logits_NV.index_fill_(1, banned_ids, float("-inf"))
