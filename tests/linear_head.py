"""A head without a policy: what a distribution needs to turn hidden rows into logits."""

from torch import Tensor


class LinearHead:
    def __init__(self, weight_VD: Tensor):
        self.weight_VD = weight_VD

    def __call__(self, hidden_ND: Tensor) -> Tensor:
        return hidden_ND @ self.weight_VD.t()
