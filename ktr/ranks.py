"""Sums and exchanges over the ranks of a distributed run; on one rank, nothing happens."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

T = TypeVar("T")

# Gradients travel in flat buckets of this many elements: 256 MiB in fp32.
_BUCKET_ELEMENTS = 64 * 1024 * 1024


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_and_size() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a small tensor over all ranks; the tensor itself on one rank."""
    if is_distributed():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def max_over_ranks(tensor: Tensor) -> Tensor:
    """The elementwise maximum of a small tensor over all ranks; the tensor itself on one rank."""
    if is_distributed():
        tensor = tensor.clone()
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def gather_over_ranks(items: list[T]) -> list[T]:
    """The items of all ranks, one rank after the other; the list itself on one rank. Items are pickled."""
    if not is_distributed():
        return items
    gathered: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, items)
    return [*chain.from_iterable(gathered)]


def share_of_rank(items: Sequence[T]) -> list[T]:
    """This rank's part of what ``gather_over_ranks`` returned, on any number of ranks that divides it."""
    rank, world_size = rank_and_size()
    share = len(items) // world_size
    return [*items[rank * share : (rank + 1) * share]]


def is_spread(tensor: Tensor) -> bool:
    """Whether this rank holds a part of a tensor only, as it does of a sharded policy's weights."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is spread over ranks, to be called on all of them; another tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sum_gradients_over_ranks(parameters: Iterable[nn.Parameter]) -> None:
    """Sum gradients over ranks, in flat buckets; a parameter that got no gradient on a rank counts as zero there.

    Losses are divided by the counts of the *global* batch before backward, so the sum is the gradient of the global
    batch, whatever each rank held. Done once per update, after all backward passes, so ranks may run different numbers
    of them (a rank whose groups all have zero advantages runs none) without waiting for each other. Gradients of
    parameters that are spread over ranks were summed as they were scattered.
    """
    if not is_distributed():
        return
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if is_spread(parameter):
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        same = not bucket or (bucket[0].dtype, bucket[0].device) == (parameter.dtype, parameter.device)
        if bucket and (not same or sum(p.numel() for p in bucket) + parameter.numel() > _BUCKET_ELEMENTS):
            _sum_bucket(bucket)
            bucket = []
        bucket.append(parameter)
    if bucket:
        _sum_bucket(bucket)


def _sum_bucket(parameters: list[nn.Parameter]) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat: Float[Tensor, " N"] = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))
