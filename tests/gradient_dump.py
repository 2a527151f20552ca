"""A callback that keeps the gradient of the first step, after it was summed over ranks."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save_file
from torch.optim import Optimizer


class GradientDump(Callback):
    def __init__(self, path: str):
        self.path = Path(path)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        if trainer.is_global_zero and not self.path.exists():
            module: LightningModule = pl_module
            gradients = {name: p.grad.clone() for name, p in module.policy.named_parameters() if p.grad is not None}
            save_file(gradients, self.path)
