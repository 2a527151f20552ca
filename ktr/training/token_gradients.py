r"""The gradient of the policy loss by parts of its tokens, exactly, without a backward pass a token.

A token's loss reaches the weights of a layer through its own row of last hidden states h_i alone, so

    ∇L_part = Σ_i c_i · a_i · Jᵢᵀ ∂logp_i/∂h_i          a_i how much of token i is in the part, c_i = ∂L/∂logp_i

where the head gives ∂logp_i/∂h_i of every token in one pass, and each part is one vector-Jacobian product with weighted
rows. c_i is that of the policy loss with weight 1 on each token: the parts are parts of GRPO's gradient.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.scored_group import FirstUpdate, ScoredGroup
from ktr.attribution.views import Factual
from ktr.policy.family import Policy
from ktr.scoring.own_rows import own_row_norms, watching_last_layer
from ktr.scoring.packing import pack, unpack
from ktr.scoring.scorer import GroupScorer
from ktr.scoring.views import apply_view

Part = Sequence[Float[Tensor, "G T"]]  # how much of each token, for each group


def pulls(loss: ClippedSurrogate, scored: ScoredGroup, counts: tuple[int, int]) -> Float[Tensor, "G T"]:
    """c: the derivative of the policy loss, with weight 1 on each token, with respect to each token's log-prob."""
    first = first_update(scored)
    with torch.enable_grad():
        logps_GT = first.factual.logps_GT.detach().requires_grad_()
        mask_GT = scored.group.completion_mask_GT.to(logps_GT.device)
        surrogate_GT = token_surrogate(loss, scored, logps_GT)
        return torch.autograd.grad(loss.reduction(-surrogate_GT, mask_GT, mask_GT, *counts), logps_GT)[0]


def token_surrogate(
    loss: ClippedSurrogate, scored: ScoredGroup, logps_GT: Float[Tensor, "G T"]
) -> Float[Tensor, "G T"]:
    """The surrogate of each token in the batch's first update, before any weight."""
    first, device = first_update(scored), logps_GT.device
    mask_GT = scored.group.completion_mask_GT.to(device)
    return loss.surrogate(logps_GT, first.old_logps_GT, first.advantages, mask_GT, first.importance_GT)[0]


def first_update(scored: ScoredGroup) -> FirstUpdate:
    """What the first update of the batch fixed. Raises ``ValueError`` before it."""
    if scored.first is None:
        raise ValueError("a group's tokens are weighed in its first update, and measured after it")
    return scored.first


@dataclass
class TokenGradients:
    """Gradients of ``parameters``, some of ``policy``'s that are trained; those of ``num_threads`` parts at a time."""

    policy: Policy
    scorer: GroupScorer
    parameters: Sequence[nn.Parameter]
    num_threads: int = 1

    def of_parts(
        self,
        to_learn: Sequence[ScoredGroup],
        pulls: Sequence[Float[Tensor, "G T"]],
        parts: Mapping[str, Part],
        token_norms: bool,
    ) -> tuple[dict[str, list[Tensor]], list[Float[Tensor, "_ _"] | None]]:
        """Each part's gradient, a tensor for each parameter; and the norm of ∂logp of each token, for each group.

        The norms are over what of the last layer lies behind its attention, None where nothing there is trained or not
        all of it is a linear map or a norm.
        """
        gradients = {name: [torch.zeros_like(parameter) for parameter in self.parameters] for name in parts}
        norms: list[Float[Tensor, "_ _"] | None] = [None] * len(to_learn)
        if not to_learn:
            return gradients, norms
        with self._trained_alone(), torch.enable_grad(), self._side_by_side() as each:
            for row in self.scorer.split([scored.group for scored in to_learn]):
                of_row = [to_learn[i] for i in row]
                masks = [scored.group.completion_mask_GT.to(pulls[i].device) for i, scored in zip(row, of_row)]
                attended_MD, residual_MD, logps_M, hidden_MD = self._score(of_row)
                (per_row_MD,) = torch.autograd.grad(logps_M.sum(), hidden_MD, retain_graph=True)
                if not self._asks_for_head:  # the rows that are targets alone: most of a row is its prompts
                    hidden_MD = self.policy.finish_rows(attended_MD, residual_MD)
                pulls_M = (
                    torch.cat([(pulls[i] * part[i])[mask] for i, mask in zip(row, masks, strict=True)])
                    for part in parts.values()
                )
                add = partial(self._add, logps_M, hidden_MD, per_row_MD)
                list(each(add, gradients.values(), pulls_M))
                if token_norms:
                    norms_M = own_row_norms(self.policy, attended_MD.detach(), residual_MD.detach(), per_row_MD)
                    if norms_M is not None:
                        for i, norms_GT in zip(row, unpack([s.group for s in of_row], norms_M), strict=True):
                            norms[i] = norms_GT
        return gradients, norms

    @property
    def _asks_for_head(self) -> bool:
        return any(parameter is self.policy.model.lm_head.weight for parameter in self.parameters)

    def _add(
        self,
        logps_M: Tensor,
        hidden_MD: Tensor,
        per_row_MD: Float[Tensor, "M D"],
        gradients: Sequence[Tensor],
        pull_M: Float[Tensor, " M"],
    ) -> None:
        if self._asks_for_head:
            outputs, weights = logps_M, pull_M.to(logps_M)
        else:
            outputs, weights = hidden_MD, (pull_M[:, None] * per_row_MD).to(hidden_MD)
        found = torch.autograd.grad(outputs, self.parameters, weights, retain_graph=True, allow_unused=True)
        for gradient, new in zip(gradients, found, strict=True):
            if new is not None:
                gradient += new

    @contextmanager
    def _side_by_side(self) -> Iterator[Callable[..., Iterable[None]]]:
        """A map over parts: passes back through one graph only read it, and leave Python to each other."""
        if self.num_threads == 1:
            yield map
            return
        with ThreadPoolExecutor(self.num_threads, initializer=torch.set_num_threads, initargs=(1,)) as threads:
            yield threads.map

    def _score(self, of_row: Sequence[ScoredGroup]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A pass over one packed row: what goes into the last layer's output projection, and beside it; log-probs and
        last hidden states of the row's targets."""
        groups = [scored.group for scored in of_row]
        if self.policy.trains_vision:
            features = self.policy.encode_video([group.prompt for group in groups])
        else:
            features = [scored.features_NF.detach() for scored in of_row]
        prompts = [
            apply_view(Factual(), self.policy, group.prompt, feature, 0)
            for group, feature in zip(groups, features, strict=True)
        ]
        row = pack(groups, prompts)
        with watching_last_layer(self.policy) as watched:
            logps_M, _, hidden_MD = self.policy.score_row(row, self.scorer.temperature, self.scorer.chunk_size, False)
        predictors_M = row.predictors_M.to(hidden_MD.device)
        attended_MD, residual_MD = (rows_LD[predictors_M] for rows_LD in watched)
        return attended_MD, residual_MD, logps_M, hidden_MD

    @contextmanager
    def _trained_alone(self) -> Iterator[None]:
        """No graph is kept below the first of the parameters."""
        asked_for = {id(parameter) for parameter in self.parameters}
        others = [p for p in self.policy.parameters() if p.requires_grad and id(p) not in asked_for]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)
