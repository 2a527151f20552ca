"""What a run on spread weights goes on from: weights and moments in parts, by name, and what is small beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ktr.policy.family import Policy
from ktr.policy.shards import SHARDS, read_shards, read_whole

MOMENTS = ("exp_avg", "exp_avg_sq")
NAMES = "names_in_parts"  # in a checkpoint: the optimizer's parameters, in its order, whose moments lie in parts


def tensors_in_parts(policy: Policy, optimizer: Optimizer) -> dict[str, Tensor]:
    """Weights and the optimizer's moments, by the names that they have in files."""
    return policy.weights_in_parts() | {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in named_in_order(policy, optimizer).items()
        for moment in MOMENTS
        if moment in optimizer.state[parameter]
    }


def small_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state without what lies in parts."""
    whole = optimizer.state_dict()
    small = {
        i: {key: value for key, value in of_one.items() if key not in MOMENTS} for i, of_one in whole["state"].items()
    }
    return {"state": small, "param_groups": whole["param_groups"]}


def named_in_order(policy: Policy, optimizer: Optimizer) -> dict[str, nn.Parameter]:
    """The parameters of ``optimizer`` in its order, by their names in ``policy``."""
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {names[id(parameter)]: parameter for parameter in parameters}


def add_moments(checkpoint: dict[str, Any], folder: Path) -> None:
    """Put the moments that lie in parts in ``folder`` into the checkpoint of a trainer that is to hold all of them."""
    names, state = checkpoint.get(NAMES), checkpoint["optimizer_states"][0]["state"]
    if names is not None and state:
        moments = read_whole(folder / SHARDS, [f"{moment}.{names[i]}" for i in state for moment in MOMENTS])
        for i in state:
            state[i] |= {moment: moments[f"{moment}.{names[i]}"] for moment in MOMENTS}


def restore_optimizer(policy: Policy, optimizer: Optimizer, checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Give an optimizer of spread weights the state of a checkpoint that was written in parts, or whole."""
    saved = checkpoint["optimizer_states"][0]
    optimizer.load_state_dict({"state": {}, "param_groups": saved["param_groups"]})
    in_parts: dict[str, Tensor] = {}
    for i, (name, parameter) in enumerate(named_in_order(policy, optimizer).items()):
        if (of_one := saved["state"].get(i)) is None:
            continue
        of_one = dict(of_one)
        for moment in MOMENTS:
            if moment in of_one:
                of_one[moment] = _spread_like(parameter, of_one[moment])
            else:
                of_one[moment] = in_parts[f"{moment}.{name}"] = torch.zeros_like(parameter)
        optimizer.state[parameter] = of_one
    if in_parts:
        read_shards(folder / SHARDS, in_parts)


def _spread_like(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    assert isinstance(parameter, DTensor)
    return distribute_tensor(whole.to(parameter.device), parameter.device_mesh, parameter.placements)
