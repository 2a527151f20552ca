"""Where the tower's graph is cut, so that several packed rows run backward through the tower once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Features = Sequence[Float[Tensor, "_ F"]]


def cut_graph(features: Features) -> list[Float[Tensor, "_ F"]]:
    """Leaves in place of the tower's features, on which the gradients of several backward passes gather."""
    return [feature.detach().requires_grad_(feature.requires_grad) for feature in features]


def backward_through_cut(features: Features, leaves: Features) -> None:
    """Run what gathered on the leaves through the tower's graph, once; nothing where the tower isn't trained."""
    reached = [(feature, leaf.grad) for feature, leaf in zip(features, leaves, strict=True) if leaf.grad is not None]
    if reached:
        torch.autograd.backward([feature for feature, _ in reached], [grad for _, grad in reached])
