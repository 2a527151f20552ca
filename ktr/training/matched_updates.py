r"""Updates as long as GRPO's, in the direction of the tokens that count.

Fewer tokens give a smaller gradient and less noise, and AdamW answers to both: a rule that chooses tokens also takes
steps of another length. To tell the choice from the length, each update is scaled to the norm that AdamW's would have
had with the gradient of *all* tokens of the same batches:

    Δθ = Δθ_S · ‖Δθ_all‖ / ‖Δθ_S‖          Δθ = −lr · m̂ / (√v̂ + ε), m and v those of the gradient of S, or of all tokens

Both gradients are clipped. Weight decay is scaled with the step that it is part of. A run that weighs every token alike
is left as it is, up to rounding. The price is one more pass forward and back an update.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import AdamW

from ktr.algorithm.scored_group import ScoredGroup
from ktr.errors import ConfigError
from ktr.policy.family import Policy
from ktr.ranks import sum_over_ranks
from ktr.training.learner import Learner
from ktr.training.optim import AdamWCosine
from ktr.training.sharding import is_sharded
from ktr.training.token_gradients import TokenGradients, pulls


class MatchedAdamW(AdamW):
    """AdamW whose updates have the norm of those that other gradients, told by ``match``, would give.

    The moments of the others are in its state, so that a resumed run goes on as it was. ``scale`` is that of the last
    update.
    """

    scale = 1.0
    _others: Mapping[Tensor, Tensor] = MappingProxyType({})

    def match(self, gradients: Mapping[Tensor, Tensor], max_norm: float) -> None:
        """The other gradient of each parameter in the coming update, not yet clipped."""
        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        shrink = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        self._others = {parameter: gradient * shrink for parameter, gradient in gradients.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. Raises ``ConfigError`` where nothing was told of the other gradients."""
        result = None
        if closure is not None:  # Lightning's, which may call match
            with torch.enable_grad():
                result = closure()
        rates = [group["lr"] for group in self.param_groups]
        self.scale = self._matching_scale()
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate * self.scale
        super().step()
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return result

    def _matching_scale(self) -> float:
        if not self._others:
            raise ConfigError(
                "optimizer: each update is matched with GRPO's, and supervised training has none; take "
                "ktr.training.optim.AdamWCosine"
            )
        own_square, other_square = [], []
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:  # AdamW begins its own moments only where the state is empty
                    state["step"] = torch.tensor(0.0)
                    names = ("exp_avg", "exp_avg_sq", "other_avg", "other_avg_sq")
                    state |= {name: torch.zeros_like(parameter) for name in names}
                own = _moved(state["exp_avg"], state["exp_avg_sq"], parameter.grad, group["betas"])
                other = _moved(state["other_avg"], state["other_avg_sq"], self._others[parameter], group["betas"])
                state["other_avg"], state["other_avg_sq"] = other
                own_square.append(_square(own, state["step"] + 1, group))
                other_square.append(_square(other, state["step"] + 1, group))
        self._others = MappingProxyType({})
        own_norm, other_norm = torch.stack([torch.stack(own_square), torch.stack(other_square)]).sum(1).sqrt().tolist()
        return other_norm / own_norm if own_norm > 0 else 1.0


def _moved(average: Tensor, average_sq: Tensor, gradient: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    return average.lerp(gradient, 1 - betas[0]), average_sq.lerp(gradient.square(), 1 - betas[1])


def _square(moments: tuple[Tensor, Tensor], step: Tensor, group: Mapping[str, Any]) -> Tensor:
    """The squared norm of AdamW's update of one parameter at rate 1."""
    (first, second), (beta1, beta2) = moments, group["betas"]
    root = (second / (1 - beta2**step)).sqrt() + group["eps"]
    return (first / (1 - beta1**step) / root).double().square().sum()


@dataclass(frozen=True)
class MatchedAdamWCosine(AdamWCosine):
    """``AdamWCosine`` whose updates are as long as those of all tokens of the same batches."""

    _kind: ClassVar[type[AdamW]] = MatchedAdamW


def gradient_of_all_tokens(
    policy: Policy, learner: Learner, to_learn: Sequence[ScoredGroup], counts: tuple[int, int]
) -> dict[Tensor, Tensor]:
    """Of the policy loss with weight 1 on each token, by trained parameter. To be called on all ranks."""
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    of_loss = [pulls(learner.loss, scored, counts) for scored in to_learn]
    whole = [scored.group.completion_mask_GT.to(pull_GT) for scored, pull_GT in zip(to_learn, of_loss, strict=True)]
    gradients, _ = TokenGradients(policy, learner.scorer, parameters).of_parts(
        to_learn, of_loss, {"all": whole}, token_norms=False
    )
    return {p: sum_over_ranks(gradient) for p, gradient in zip(parameters, gradients["all"], strict=True)}


def refuse_unmatched(learner: Learner, updates_per_rollout: int) -> None:
    """Raise ``ConfigError`` where the gradient of all tokens would not be that of GRPO."""
    what = None
    if is_sharded(learner.policy):
        what = "trainer=fsdp2 spreads the weights"
    elif updates_per_rollout > 1:
        what = f"algorithm.updates_per_rollout={updates_per_rollout}"
    elif learner.loss.learns_without_advantage:
        what = "a KL term or another penalty (loss.beta, loss.penalties)"
    if what is not None:
        raise ConfigError(f"optimizer: updates are matched with GRPO's, which {what} does not go with; leave that out")
