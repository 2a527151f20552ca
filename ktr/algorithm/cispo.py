r"""CISPO's surrogate (MiniMax-M1, arXiv 2506.13585): the importance weight is clipped, and no token drops out.

v[i,t] = sg[clip(ρ, 1 − c_low, 1 + c_high)] · A_i · logp[i,t]

so that ∂v/∂logp is the clipped weight times A_i, also where the clipped surrogate of PPO has no gradient. The paper
tunes the upper bound alone: with c_low = 1 the weight's floor is 0, and c_high is an offset from 1 (4: at most five
times), where some code bases take an absolute bound under the same name. The loss's value is no improvement over the
policy that sampled: at ρ = 1 it is −A·logp.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ktr.algorithm.loss import ClippedSurrogate


class ClippedImportance(ClippedSurrogate):
    """``ClippedSurrogate`` with a clip that bounds the weight of a token instead of dropping it."""

    def _of_ratio(
        self, ratio_GT: Float[Tensor, "G T"], logps_GT: Float[Tensor, "G T"], advantages_GT: Float[Tensor, "G _"]
    ) -> Float[Tensor, "G T"]:
        return self._clipped(ratio_GT).detach() * advantages_GT * logps_GT

    def _removed(
        self, ratio_GT: Float[Tensor, "G T"], advantages_GT: Float[Tensor, "G _"], mask_GT: Bool[Tensor, "G T"]
    ) -> Bool[Tensor, "G T"]:
        return torch.zeros_like(mask_GT)
