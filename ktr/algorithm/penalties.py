r"""Terms that are added to the loss of every completion token, whatever its weight.

- ``MaskedViewDivergence`` (PAPO, arXiv 2507.06448): −γ · min(k3, 10), k3 = exp(u) − u − 1, u = mlogp − logp clamped to
  ±20, with mlogp the log-prob of the same token where the media are masked. It pays for tokens that depend on them:
  ∂/∂logp = −γ · (1 − exp(u)).
- ``SampledSurprise`` (PAPO's and VPPO's entropy term, arXiv 2510.09285): −c · logp, the one-sample surrogate of the
  entropy. Its gradient is that of c on each token's advantage, and not the entropy's.

Assumptions: the masked view is scored once a batch, before the first update and without gradient, as in PAPO's code
(so that a penalty on the *masked* view's entropy would be a constant, and is not here). Tokens are hidden, each visual
token with probability ``fraction``; PAPO blackens squares of 14 pixels of the picture before the tower sees it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import MaskedVideo, Masking, View
from ktr.types import Medium, TokenScores


@runtime_checkable
class Penalty(Protocol):
    """A loss of each token; off the completion mask anything. ``views`` holds those that it required, scored."""

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]: ...

    def __call__(self, logps_GT: Float[Tensor, "G T"], views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]: ...


class MaskedViewDivergence:
    """−``gamma`` · k3 between the policy with its media and with a ``fraction`` of them masked; 0 without media."""

    def __init__(self, gamma: float = 0.02, masking: Masking = "drop", fraction: float = 0.6) -> None:
        self.gamma, self.view = gamma, MaskedVideo(masking, fraction)

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]:
        return (self.view,) if any(self.view.changes(media)) else ()

    def __call__(self, logps_GT: Float[Tensor, "G T"], views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]:
        if self.view not in views:
            return torch.zeros_like(logps_GT)
        u_GT = (views[self.view].logps_GT.detach() - logps_GT).clamp(-20, 20)
        return -self.gamma * (torch.expm1(u_GT) - u_GT).clamp(max=10)


class SampledSurprise:
    """−``coefficient`` · logp: with a positive one the policy grows surer of what it samples."""

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient

    def required_views(self, media: Sequence[Medium]) -> tuple[View, ...]:
        return ()

    def __call__(self, logps_GT: Float[Tensor, "G T"], views: Mapping[View, TokenScores]) -> Float[Tensor, "G T"]:
        return -self.coefficient * logps_GT
