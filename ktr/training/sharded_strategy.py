"""Data parallelism over a policy that is spread over the ranks, so that none holds all of its weights or states."""

from datetime import timedelta

import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from ktr.policy.family import Policy
from ktr.training.sharding import shard


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all ranks of all nodes (``ktr.training.sharding``).

    With ``cpu_offload`` each rank's part of weights, gradients and optimizer is in the host's memory. A rank that waits
    longer than ``timeout_seconds`` for the others ends with an error, and the run with it.
    """

    def __init__(
        self,
        cpu_offload: bool = False,
        timeout_seconds: float = 1800.0,
        process_group_backend: str | None = None,
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, timeout=timedelta(seconds=timeout_seconds))
        self.cpu_offload = cpu_offload

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def shard(self, policy: Policy) -> None:
        """Spread a policy over the ranks, its layers gathered in the precision that the trainer computes in."""
        layer_dtype = torch.bfloat16 if self.precision_plugin.precision == "bf16-mixed" else None
        shard(policy, self.device_mesh["data_parallel"], layer_dtype, self.cpu_offload)

    def _get_process_group_backend(self) -> str:
        on_gpu = self.root_device.type == "cuda"  # where what is small, or on the host, goes over gloo
        return self._process_group_backend or ("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
