"""Data parallelism where the module sums its gradients itself."""

from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from ktr.training.time_limits import limit_exchanges


class ReplicatedStrategy(DDPStrategy):
    """Lightning's processes, sampler and seeds of ``ddp``, without DistributedDataParallel around the module.

    DDP reduces in hooks of each backward pass and hangs, or averages what should be summed, when ranks run different
    numbers of passes. The modules here call ``sum_gradients_over_ranks`` once per update instead. A rank that waits
    longer than ``start_limit_s`` for the others to come, or later than ``time_limit_s``, ends, and with it the run.
    """

    def __init__(self, start_limit_s: float = 1800.0, time_limit_s: float = 1800.0, **options: Any) -> None:
        self.time_limit = timedelta(seconds=time_limit_s)
        super().__init__(timeout=timedelta(seconds=start_limit_s), **options)

    def setup_environment(self) -> None:
        super().setup_environment()
        limit_exchanges(self.time_limit)

    def configure_ddp(self) -> None:
        """Leave the module unwrapped."""
