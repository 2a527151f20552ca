"""An update in packed rows and one in full rows, on any device: one loss, one gradient."""

from pathlib import Path

import torch

from benchmarks.gpu.sizes import make_policy, tiny
from benchmarks.gpu.update import ours, reference
from ktr.policy.folder_model import Dtype

# Of the loss, and of a whole gradient by its norm.
TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (3e-2, 0.1)}


def assert_one_loss_and_one_gradient(
    model: str, algorithm: str, folder: Path, device: torch.device, dtype: Dtype
) -> None:
    policy, group = make_policy(tiny().models[model], folder, device, dtype), tiny().group(model, 4)
    losses, gradients = [], []
    for way in (ours, reference):
        losses.append(way(policy, group, algorithm))
        grads = [p.grad.float().flatten() for p in policy.parameters() if p.grad is not None]
        gradients.append(torch.cat(grads))
    of_loss, of_gradient = TOLERANCES[dtype]
    assert abs(losses[0] - losses[1]) <= of_loss
    assert gradients[1].norm() > 0
    assert (gradients[0] - gradients[1]).norm() <= of_gradient * gradients[1].norm()
