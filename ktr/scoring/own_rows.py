"""What single tokens do to the last layer's weights, behind its attention.

There a token acts through its own row only. The norm of its own gradient is that of an outer product for a linear map,
|δ_i|·|x_i|, and of δ_i ⊙ x̂_i for a norm: exact, from one backward pass for all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ktr.attribution.views import Factual
from ktr.policy.family import Policy
from ktr.scoring.packing import pack, unpack
from ktr.scoring.scorer import GroupScorer
from ktr.scoring.views import apply_view
from ktr.token_head import token_logps
from ktr.types import RolloutGroup


def token_gradient_norms(
    policy: Policy, scorer: GroupScorer, groups: Sequence[RolloutGroup], features: Sequence[Float[Tensor, "_ F"]]
) -> list[Float[Tensor, "_ _"] | None]:
    """The norm of ∂ log p of each token of each group (G, T), 0 off the completion mask; see ``own_row_norms``."""
    norms: list[Float[Tensor, "_ _"] | None] = [None] * len(groups)
    for indices in scorer.split(groups):
        of_row = [groups[i] for i in indices]
        prompts = [apply_view(Factual(), policy, groups[i].prompt, features[i], 0) for i in indices]
        row = pack(of_row, prompts)
        predictors_M, targets_M = row.predictors_M.to(policy.device), row.targets_M.to(policy.device)
        with torch.no_grad(), watching_last_layer(policy) as watched:
            _, _, hidden_MD = policy.score_row(row, scorer.temperature, scorer.chunk_size, entropy=False)
        with torch.enable_grad():
            hidden_MD = hidden_MD.detach().requires_grad_()
            weight_VD = policy.model.lm_head.weight.detach()
            logps_M, _ = token_logps(
                hidden_MD, weight_VD, targets_M, policy.banned_ids, scorer.temperature, scorer.chunk_size, entropy=False
            )
            (per_row_MD,) = torch.autograd.grad(logps_M.sum(), hidden_MD)
            attended_MD, residual_MD = (rows_LD[predictors_M] for rows_LD in watched)
            norms_M = own_row_norms(policy, attended_MD, residual_MD, per_row_MD)
        if norms_M is not None:
            for i, norms_GT in zip(indices, unpack(of_row, norms_M), strict=True):
                norms[i] = norms_GT
    return norms


@contextmanager
def watching_last_layer(policy: Policy) -> Iterator[list[Float[Tensor, "L _"]]]:
    """Filled inside with what ``Policy.finish_rows`` takes, of all rows of the one packed row that is scored there."""
    watched: list[Float[Tensor, "L _"]] = []
    layer: Any = policy.decoder_layers[-1]
    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, inputs: watched.insert(0, inputs[0][0])),
        layer.register_forward_pre_hook(lambda _, inputs: watched.append(inputs[0][0])),
    ]
    try:
        yield watched
    finally:
        for handle in handles:
            handle.remove()


def own_row_norms(
    policy: Policy,
    attended_MD: Float[Tensor, "M _"],
    residual_MD: Float[Tensor, "M D"],
    per_row_MD: Float[Tensor, "M D"],
) -> Float[Tensor, " M"] | None:
    """Norm of each row's own gradient, ``per_row_MD`` back through the last layer from its output projection on.

    None where nothing there is trained, or not all of it is a linear map or a norm.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls.append((module, inputs[0], output))

    own = [module for part in policy.own_row_parts() for module in part.modules()]
    trained = [module for module in own if any(p.requires_grad for p in module.parameters(recurse=False))]
    known = [module for module in trained if isinstance(module, nn.Linear) or hasattr(module, "variance_epsilon")]
    handles = [module.register_forward_hook(note) for module in known]
    try:
        rows_MD = policy.finish_rows(attended_MD, residual_MD)
    finally:
        for handle in handles:
            handle.remove()
    if not trained or {id(module) for module, *_ in calls} != {id(module) for module in trained}:
        return None
    deltas = torch.autograd.grad(rows_MD, [output for *_, output in calls], per_row_MD.to(rows_MD))
    squares_M = torch.zeros(len(rows_MD), device=rows_MD.device)
    for (module, inputs, _), delta in zip(calls, deltas, strict=True):
        inputs, delta = inputs.detach().float(), delta.float()
        if isinstance(module, nn.Linear):
            squares_M += delta.square().sum(-1) * inputs.square().sum(-1) * float(module.weight.requires_grad)
            if module.bias is not None and module.bias.requires_grad:
                squares_M += delta.square().sum(-1)
        else:
            normed = F.rms_norm(inputs, inputs.shape[-1:], eps=cast(float, module.variance_epsilon))
            squares_M += (delta * normed).square().sum(-1)
    return squares_M.sqrt()
