"""AdamW with warm-up and cosine decay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class AdamWCosine:
    """Settings of the optimizer and its schedule.

    The rate rises linearly over ``warmup_steps``, then falls along a cosine to ``final_lr_fraction`` of ``lr`` at
    ``total_steps``. Weight decay is for matrices only: not for norms and biases. Raises ValueError where a value would
    turn a step around, or leave nothing of it.
    """

    lr: float
    total_steps: int
    betas: Sequence[float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup_steps: int = 0
    final_lr_fraction: float = 0.0
    max_grad_norm: float = 1.0
    _kind: ClassVar[type[AdamW]] = AdamW

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "warmup_steps", "final_lr_fraction"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: give 0 or more")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm={self.max_grad_norm}: give more than 0; inf clips nothing")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={list(self.betas)}: give two numbers, each from 0 to below 1")

    def build(self, module: nn.Module) -> tuple[AdamW, LambdaLR]:
        """The optimizer over the trainable parameters, and its schedule."""
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not trainable:
            raise ValueError("nothing to train: model.freeze covers every part of the model")
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        betas = (self.betas[0], self.betas[1])
        optimizer = self._kind([group for group in groups if group["params"]], lr=self.lr, betas=betas)
        return optimizer, LambdaLR(optimizer, self._lr_fraction)

    def put_in_force(self, optimizer: AdamW, schedule: LambdaLR) -> None:
        """Let a restored optimizer and schedule go on with this rate and shape: their states hold those that were."""
        schedule.base_lrs = [self.lr] * len(optimizer.param_groups)
        rate = self.lr * self._lr_fraction(schedule.last_epoch)
        for group in optimizer.param_groups:
            group["initial_lr"], group["lr"] = self.lr, rate
        schedule._last_lr = [rate] * len(optimizer.param_groups)  # what get_last_lr gives out

    def _lr_fraction(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.final_lr_fraction + (1 - self.final_lr_fraction) * cosine
