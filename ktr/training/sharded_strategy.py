"""Data parallelism over a policy that is spread over the ranks, so that none holds all of its weights or states."""

from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.api import CheckpointException

from ktr.policy.family import Policy
from ktr.policy.shards import SHARDS, write_shards
from ktr.training.sharded_state import NAMES, named_in_order, restore_optimizer, small_state, tensors_in_parts
from ktr.training.sharding import shard
from ktr.training.time_limits import limit_exchanges


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all ranks of all nodes (``ktr.training.sharding``).

    With ``cpu_offload`` each rank's part of weights, gradients and optimizer is in the host's memory. A rank that waits
    longer than ``start_limit_s`` for the others to come, or later than ``time_limit_s``, ends, and with it the run.
    """

    def __init__(
        self,
        cpu_offload: bool = False,
        start_limit_s: float = 1800.0,
        time_limit_s: float = 1800.0,
        process_group_backend: str | None = None,
    ) -> None:
        self.time_limit = timedelta(seconds=time_limit_s)
        super().__init__(process_group_backend=process_group_backend, timeout=timedelta(seconds=start_limit_s))
        self.cpu_offload = cpu_offload
        self._writing: Future[Any] | None = None
        self._writers: Any = None  # the ranks, in a group that nothing else uses while they write

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()
        limit_exchanges(self.time_limit)

    def shard(self, policy: Policy) -> None:
        """Spread a policy over the ranks, its layers gathered in the precision that the trainer computes in."""
        layer_dtype = torch.bfloat16 if self.precision_plugin.precision == "bf16-mixed" else None
        shard(policy, self.device_mesh["data_parallel"], layer_dtype, self.cpu_offload)

    def model_to_device(self) -> None:
        """A policy is placed as it is spread; one that is offloaded stays where it was put."""
        if not self.cpu_offload:
            super().model_to_device()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to a file, and beside it, in a thread, the weights and moments that each rank holds.

        The checkpoint is whole once ``has_written``.
        """
        path, policy, optimizer = Path(filepath), self._policy, self.optimizers[0]
        self.has_written(wait=True)
        if self._writers is None:
            self._writers = dist.new_group(backend="gloo", timeout=self.time_limit)
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint | {NAMES: [*named_in_order(policy, optimizer)]}, path)
        self._writing = write_shards(path.parent / SHARDS, tensors_in_parts(policy, optimizer), self._writers)

    def has_written(self, wait: bool = False) -> bool:
        """Whether all ranks have written their parts of the last checkpoint. Raises what kept one from it."""
        if self._writing is not None and (wait or self._writing.done()):
            try:
                self._writing.result()
            except CheckpointException as error:  # no Exception, and what failed is only in its text
                raise next(iter(error.failures.values()))[0] from None
            self._writing = None
        return self._writing is None

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint that any number of ranks wrote; the policy was built with its weights already."""
        path = Path(checkpoint_path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        restore_optimizer(self._policy, self.optimizers[0], checkpoint, path.parent)
        return checkpoint

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return small_state(optimizer)

    @property
    def _policy(self) -> Policy:
        return cast(Any, self.lightning_module).policy

    def _get_process_group_backend(self) -> str:
        on_gpu = self.root_device.type == "cuda"  # where what is small, or on the host, goes over gloo
        return self._process_group_backend or ("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
