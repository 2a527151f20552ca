"""A policy spread over ranks: each holds a part of every weight, and gathers those of a layer while it runs (FSDP2).

    blocks of the tower, decoder layers      gathered for their own run, forward and backward
    the tower's merger                       gathered for the tower's
    embeddings, last norm, head              gathered for each of the policy's forwards, and until the next one

Losses are divided by the counts of the global batch, so that gradients are summed, not averaged.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from ktr.policy.family import Policy
from ktr.ranks import is_spread
from ktr.rollout.engine import RolloutEngine


def shard(policy: Policy, mesh: DeviceMesh, layer_dtype: torch.dtype | None = None, cpu_offload: bool = False) -> None:
    """Spread the weights of ``policy`` over ``mesh``, in place.

    ``layer_dtype`` is what layers are gathered in where products are rounded to it anyway (autocast); masters and sums
    of gradients stay as they are. With ``cpu_offload`` parts, gradients and optimizer live in the host's memory.
    """
    tower = policy.model.model.visual
    layers = MixedPrecisionPolicy(layer_dtype, policy.dtype if layer_dtype else None, cast_forward_inputs=False)
    offload = CPUOffloadPolicy() if cpu_offload and mesh.device_type != "cpu" else OffloadPolicy()
    options: dict[str, Any] = {"mesh": mesh, "offload_policy": offload}
    for layer in [*tower.blocks, *policy.decoder_layers]:
        fully_shard(layer, mp_policy=layers, reshard_after_forward=True, **options)
    fully_shard(tower, reshard_after_forward=True, **options)
    fully_shard(policy, reshard_after_forward=False, **options)
    for module in _sharded_modules(policy):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    policy.model.get_input_embeddings().register_forward_hook(_require_grad)
    policy(lambda: None)  # what runs first is taken for the root
    cast(FSDPModule, policy).reshard()


def is_sharded(policy: nn.Module) -> bool:
    return isinstance(policy, FSDPModule)


def is_gathered(policy: Policy) -> bool:
    """Whether every weight is here, for the time being."""
    return not is_spread(next(policy.decoder_layers[0].parameters()))


@contextmanager
def gathered(policy: Policy) -> Iterator[None]:
    """Inside, every rank has all weights of a sharded policy, and may run it as often as it likes.

    To be entered on all ranks; a rank may leave when it likes. Weights are read inside, and not changed.
    """
    if not is_sharded(policy) or is_gathered(policy):
        yield
        return
    root, modules = cast(FSDPModule, policy), _sharded_modules(policy)
    try:
        root.set_reshard_after_forward(False)
        root.set_reshard_after_backward(False)
        for module in modules:
            module.unshard()
        yield
    finally:
        root.reset_iter_state()
        root.set_reshard_after_backward(True)
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(module is not root, recurse=False)


def gathered_for(engine: RolloutEngine, policy: Policy) -> AbstractContextManager[None]:
    """Where ``engine`` is to answer: ``gathered`` for one that runs the policy itself, of one rank or of all."""
    return gathered(policy) if engine.uses_policy_tower else nullcontext()


def _sharded_modules(policy: Policy) -> list[FSDPModule]:
    return [module for module in policy.modules() if isinstance(module, FSDPModule)]


def _require_grad(module: nn.Module, inputs: Any, embeddings: torch.Tensor) -> torch.Tensor:
    """Have layers sum their gradients in one order, whether a row has anything trained below them or not."""
    return embeddings.requires_grad_() if torch.is_grad_enabled() and embeddings.is_leaf else embeddings
