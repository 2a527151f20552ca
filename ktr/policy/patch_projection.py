"""The tower's first layer as one matrix product.

It is a convolution over patches that each are as large as its kernel: nothing slides, and the product of the flattened
patches with its flattened weights is the same sum, at a third of the time, forward and backward.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PatchProjection(nn.Conv3d):
    """A convolution of patches that its kernel covers. Its parameters, and what adapters and files make of it, stay."""

    @classmethod
    def of(cls, convolution: nn.Conv3d) -> "PatchProjection":
        """With the very parameters of ``convolution``, which must move by whole kernels."""
        assert convolution.kernel_size == convolution.stride and convolution.groups == 1
        channels = convolution.in_channels, convolution.out_channels
        kernel = cast(tuple[int, int, int], convolution.kernel_size)
        with torch.device("meta"):
            projection = cls(*channels, kernel, kernel, bias=convolution.bias is not None)
        projection.weight, projection.bias = convolution.weight, convolution.bias
        return projection

    def forward(self, input: Float[Tensor, "N c t h w"]) -> Float[Tensor, "N D 1 1 1"]:
        assert input.shape[2:] == self.kernel_size, f"patches of {input.shape[2:]} are not {self.kernel_size}"
        return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]
