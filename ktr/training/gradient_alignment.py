"""Whose gradient a run follows: norms of the gradients of parts of the tokens, and their cosines with the whole."""

import logging
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.scored_group import ScoredGroup
from ktr.errors import ConfigError
from ktr.evaluation.attribution import LabelTokens
from ktr.policy.family import Policy
from ktr.ranks import gather_over_ranks, sum_over_ranks
from ktr.record.log_once import log_once
from ktr.training.rl_module import VideoRLModule
from ktr.training.sharding import gathered
from ktr.training.token_gradients import Part, TokenGradients, first_update, pulls, token_surrogate

log = logging.getLogger(__name__)

Modules = str | Sequence[int]  # last_layer, all, or indices of layers


class GradientAlignment(Callback):
    """Logs, every ``every_n_steps`` updates, ``grad/norm/{part}`` and ``grad/cosine/{part}`` (with the whole).

    Parts of the tokens of the step's batch: ``all`` (GRPO's gradient), ``selected`` (each token by its weight) and
    ``rest``, one for each signal that selects, and ``random``, as many tokens of each completion as are selected. Where
    ``roles`` labels tokens with what they depend on (the embedded worlds), there is a part for each role. The gradient
    is that of the policy loss alone, before clipping, over the global batch, with respect to ``modules``: the
    ``last_layer`` of the decoder, layers by their index, or ``all`` that is trained. ``grad/parts_error`` is
    ‖selected + rest − all‖ / ‖all‖. ``loss/variance`` is the variance of the loss of the tokens that have a weight, and
    ``loss/variance_all`` of all tokens, in the groups that are learned from.

    With ``token_norms`` the norm of ∂ log p of each token, over what of the last layer acts on its own row alone, goes
    into the rollout records. The weights' gradients, and so the run, stay as they are, to the bit. Supervised training,
    and a run that trains nothing in the last layer where that is asked for, are left alone.
    """

    def __init__(
        self,
        every_n_steps: int = 10,
        modules: Modules = "last_layer",
        roles: LabelTokens | None = None,
        token_norms: bool = True,
        seed: int = 0,
    ):
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: give 1 at least, or remove callbacks.gradient_alignment")
        self.every_n_steps, self.modules, self.roles = every_n_steps, modules, roles
        self.token_norms, self.seed = token_norms, seed
        self._acts, self._is_due = True, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._acts = isinstance(pl_module, VideoRLModule)  # supervised training has no policy loss
        if not self._acts:
            return
        policy = cast(VideoRLModule, pl_module).policy
        if self.modules == "last_layer" and not any(p.requires_grad for p in policy.decoder_layers[-1].parameters()):
            log.warning(
                "no gradients are measured, for nothing is trained in the last layer; give "
                "callbacks.gradient_alignment.modules the layers that are, or all"
            )
            self._acts = False
            return
        chosen_parameters(policy, self.modules)  # what was asked for and can't be measured is said now

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # The first update of the batch in which the multiple falls: later ones have no rollouts of their own.
        updates = cast(VideoRLModule, pl_module).updates_per_batch
        self._is_due = self._acts and trainer.global_step % self.every_n_steps < updates

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if not self._is_due:
            return
        self._is_due, started = False, perf_counter()
        module = cast(VideoRLModule, pl_module)
        with gathered(module.policy):
            metrics = self.measure(module)
        seconds = {"time/gradients_seconds": perf_counter() - started}
        log_once(trainer, metrics | seconds, step=trainer.global_step + 1)

    def measure(self, module: VideoRLModule) -> dict[str, float]:
        """The metrics of the batch that ``module`` is learning from. To be called on all ranks."""
        to_learn, counts = module.learning
        policy = module.policy
        parameters = chosen_parameters(policy, self.modules)
        of_loss = [pulls(module.learner.loss, scored, counts) for scored in to_learn]
        parts = token_parts(to_learn, self.roles, self.seed)
        was_training = policy.training
        policy.train(self.modules == "all")  # gradient checkpointing acts in training mode, and is worth it only here
        gradients, norms = TokenGradients(policy, module.scorer, parameters).of_parts(
            to_learn, of_loss, parts, self.token_norms
        )
        policy.train(was_training)
        for scored, norms_GT in zip(to_learn, norms, strict=True):
            scored.gradient_norms_GT = norms_GT
        vectors = {name: _summed(parts_of) for name, parts_of in gradients.items()}
        return alignment(vectors) | loss_variance(module.learner.loss, to_learn, module.policy.device)


def chosen_parameters(policy: Policy, modules: Modules) -> list[nn.Parameter]:
    """The trained parameters of ``modules``. Raises ``ConfigError`` where there are none."""
    layers = policy.decoder_layers
    if modules == "all":
        inside: list[nn.Module] = [policy]
    elif isinstance(modules, str) and modules != "last_layer":
        raise ConfigError(
            f"callbacks.gradient_alignment.modules={modules}: choose last_layer, all, or indices of layers, as [0, -1]"
        )
    else:
        indices = [len(layers) - 1] if modules == "last_layer" else [int(index) for index in modules]
        if wrong := [index for index in indices if not -len(layers) <= index < len(layers)]:
            raise ConfigError(
                f"callbacks.gradient_alignment.modules={list(modules)}: there is no layer {wrong[0]} of {len(layers)}"
            )
        inside = [layers[index] for index in indices]
    parameters = [parameter for module in inside for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError(
            f"callbacks.gradient_alignment.modules={modules}: nothing is trained there; choose layers that are, or "
            "all, or remove the callback (~callbacks.gradient_alignment)"
        )
    return list(dict.fromkeys(parameters))


def token_parts(to_learn: Sequence[ScoredGroup], roles: LabelTokens | None, seed: int) -> dict[str, Part]:
    """How much of each token is in each part; on every rank the same parts, whatever its groups have."""
    masks = [scored.group.completion_mask_GT for scored in to_learn]
    weights = [first_update(scored).weights for scored in to_learn]
    selected = [weight.weights_GT for weight in weights]
    whole = [mask_GT.to(weight_GT) for mask_GT, weight_GT in zip(masks, selected, strict=True)]
    parts: dict[str, Part] = {
        "all": whole,
        "selected": selected,
        "rest": [whole_GT - weight_GT for whole_GT, weight_GT in zip(whole, selected, strict=True)],
        "random": [
            _random_tokens(mask_GT, weight_GT, scored.seed + seed)
            for scored, mask_GT, weight_GT in zip(to_learn, masks, selected, strict=True)
        ],
    }
    signals = gather_over_ranks([name for weight in weights for name in weight.selections])
    nothing = [torch.zeros_like(whole_GT) for whole_GT in whole]
    for name in sorted(set(signals) - parts.keys()):  # a weighting may call its own choice rest, or random
        parts[name] = [
            weight.selections[name].to(zero_GT) if name in weight.selections else zero_GT
            for weight, zero_GT in zip(weights, nothing, strict=True)
        ]
    if roles is not None:
        labels = [_spread(mask_GT, roles(scored.group)) for mask_GT, scored in zip(masks, to_learn, strict=True)]
        names = gather_over_ranks(sorted({label for of_group in labels for label in of_group if label}))
        for name in dict.fromkeys(sorted(names)):
            parts[f"role/{name}"] = [
                torch.tensor([label == name for label in of_group]).view(whole_GT.shape).to(whole_GT)
                for of_group, whole_GT in zip(labels, whole, strict=True)
            ]
    return parts


def alignment(gradients: Mapping[str, Float[Tensor, " P"]]) -> dict[str, float]:
    """Norms, cosines with ``all`` (none of a gradient of zero), and how far ``selected`` and ``rest`` are from it."""
    whole = gradients["all"]
    names = list(gradients)
    norms = torch.stack([gradients[name].norm() for name in names])
    products = torch.stack([gradients[name] @ whole for name in names])
    error = (gradients["selected"] + gradients["rest"] - whole).norm()
    *rows, parts_error = torch.cat([torch.stack([norms, products], 1).flatten(), error[None]]).tolist()
    found = {name: (rows[2 * i], rows[2 * i + 1]) for i, name in enumerate(names)}
    whole_norm = found["all"][0]
    metrics = {f"grad/norm/{name}": norm for name, (norm, _) in found.items()}
    metrics |= {
        f"grad/cosine/{name}": product / (norm * whole_norm)
        for name, (norm, product) in found.items()
        if norm > 0 and whole_norm > 0
    }
    return metrics | ({"grad/parts_error": parts_error / whole_norm} if whole_norm > 0 else {})


def loss_variance(loss: ClippedSurrogate, to_learn: Sequence[ScoredGroup], device: torch.device) -> dict[str, float]:
    """Variance of the loss of the tokens that have a weight, times it, and of all tokens."""
    moments = torch.zeros(2, 3, dtype=torch.float64, device=device)
    for scored in to_learn:
        first = first_update(scored)
        losses_GT = -token_surrogate(loss, scored, first.factual.logps_GT)
        mask_GT, weights_GT = scored.group.completion_mask_GT.to(losses_GT.device), first.weights.weights_GT.detach()
        for at, values in enumerate(((weights_GT * losses_GT)[mask_GT & (weights_GT != 0)], losses_GT[mask_GT])):
            values = values.double()
            moments[at] += torch.stack([torch.ones_like(values).sum(), values.sum(), values.square().sum()])
    counts, sums, squares = sum_over_ranks(moments).unbind(1)
    variances = (squares / counts - (sums / counts).square()).clamp(min=0).tolist()
    names = ("loss/variance", "loss/variance_all")
    return {name: variance for name, variance, n in zip(names, variances, counts.tolist(), strict=True) if n > 0}


def _summed(gradients: Sequence[Tensor]) -> Float[Tensor, " P"]:
    return sum_over_ranks(torch.cat([gradient.float().flatten() for gradient in gradients]))


def _random_tokens(mask_GT: Bool[Tensor, "G T"], weights_GT: Float[Tensor, "G T"], seed: int) -> Float[Tensor, "G T"]:
    draws_GT = torch.rand(mask_GT.shape, generator=torch.Generator().manual_seed(seed))
    ranks_GT = draws_GT.masked_fill(~mask_GT, 2.0).argsort(1).argsort(1).to(weights_GT.device)
    return (ranks_GT < (weights_GT != 0).sum(1, keepdim=True)).to(weights_GT)


def _spread(mask_GT: Bool[Tensor, "G T"], labels: Sequence[Sequence[str]] | None) -> list[str]:
    """The labels in the order of the flattened mask, empty on padding, and where the truth is not known."""
    width = mask_GT.shape[1]
    if labels is None:
        return [""] * mask_GT.numel()
    return [label for of_one in labels for label in [*of_one, *[""] * (width - len(of_one))]]
