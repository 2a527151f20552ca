"""Data parallelism where the module sums its gradients itself."""

from lightning.pytorch.strategies import DDPStrategy


class ReplicatedStrategy(DDPStrategy):
    """Lightning's processes, sampler and seeds of ``ddp``, without DistributedDataParallel around the module.

    DDP reduces in hooks of each backward pass and hangs, or averages what should be summed, when ranks run different
    numbers of passes. The modules here call ``sum_gradients_over_ranks`` once per update instead.
    """

    def configure_ddp(self) -> None:
        """Leave the module unwrapped."""
