"""The policy's weights to vLLM, by vLLM's own weight transfer, where no GPU link is there: by reference or a file.

vLLM ships transports for GPUs: ``nccl`` between devices, ``ipc`` on one. ``ktr_host`` is registered beside them. In one
process the tensors are handed over; between processes of one machine they lie in a safetensors file in shared memory.
The worker's side is stricter than vLLM's own: a push that leaves any element of the model as it was is an error.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from vllm import ModelRegistry
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    VLLMWeightSyncClient,
    WeightSource,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info, is_deferred_attention_layer

from ktr.policy.family import Policy
from ktr.rollout.free_space import require_space

BACKEND = "ktr_host"
_MODELS = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
}


@dataclass
class HostInitInfo(WeightTransferInitInfo):
    """Nothing to agree on."""


@dataclass
class HostUpdateInfo(WeightTransferUpdateInfo):
    """Where the weights are: a safetensors file, or the tensors themselves."""

    path: str | None = None
    tensors: list[tuple[str, Tensor]] | None = None


class HostWeightTransferEngine(WeightTransferEngine[HostInitInfo, HostUpdateInfo]):
    """The worker's side: every parameter of the model must be written, and every name must be known to it."""

    init_info_cls = HostInitInfo
    update_info_cls = HostUpdateInfo

    def init_transfer_engine(self, init_info: HostInitInfo) -> None:
        """Nothing to connect."""

    def start_weight_update(self) -> None:
        """Let vLLM collect the weights layer by layer, as its loaders expect them."""
        if not torch.cuda.is_available():
            _forget_expert_kernels(self.model)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: HostUpdateInfo) -> None:
        """Load what was sent; an unknown name is vLLM's own error."""
        weights = update_info.tensors
        if weights is None:
            assert update_info.path is not None
            weights = list(load_file(update_info.path).items())
        self.model.load_weights(weights)

    def finish_weight_update(self) -> None:
        """Apply what was collected. Raises ValueError where a part of the model was not sent."""
        missing = list(_unwritten(self.model))
        finalize_layerwise_reload(self.model, self.model_config)
        if missing:
            raise ValueError(f"the push left out {', '.join(missing)}: the engine would go on with other weights there")

    def shutdown(self) -> None:
        """Nothing is held."""


def _forget_expert_kernels(model: nn.Module) -> None:
    """Have experts set up as at the first load: on CPUs vLLM lays them out for its kernel then, and never again."""
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            cast(Any, method).moe_kernel = None


def _unwritten(model: nn.Module) -> Iterator[str]:
    """Modules of which fewer elements were loaded than their parameters hold.

    vLLM forgets a module's count when it is complete. Buffers and the scales of attention layers are no weights.
    """
    for name, module in model.named_modules():
        info = get_layerwise_info(module)
        if not info.can_load() or is_deferred_attention_layer(module):
            continue
        expected = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if isinstance(module, VocabParallelEmbedding):  # padded to a multiple of 64 rows that nothing reads
            padding = cast(Any, module.shard_indices).num_org_vocab_padding
            expected -= padding * cast(int, module.embedding_dim)
        if info.load_numel < expected:
            yield f"{name} ({info.load_numel} of {expected} elements)"


class PolicyWeights(WeightSource):
    """(name, tensor) pairs as vLLM reads them, as in ``policy``'s model folder: described once, then sent.

    On ``device``, or where they are.
    """

    def __init__(self, policy: Policy, named_tensors: Iterable[tuple[str, Tensor]], device: torch.device | None = None):
        self._policy, self._device = policy, device
        # A generator can be read once; the policy's own weights any number of times, without holding merged copies.
        self._weights = list(named_tensors) if isinstance(named_tensors, Iterator) else named_tensors

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._weights:
            yield name, self._policy.as_in_folder(name, tensor.detach().to(self._device))


@contextmanager
def weights_file(named_tensors: Iterable[tuple[str, Tensor]], folder: Path = Path("/dev/shm")) -> Iterator[Path]:
    """A safetensors file in shared memory that holds the weights while the context lasts.

    Raises ``EngineError`` before anything is written where they don't fit.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in named_tensors}
    require_space("vLLM", sum(tensor.nbytes for tensor in tensors.values()), folder)
    handle, name = tempfile.mkstemp(prefix="ktr-weights-", suffix=".safetensors", dir=folder)
    os.close(handle)
    path = Path(name)
    try:
        save_file(tensors, path)
        del tensors  # the file is read while the context lasts
        yield path
    finally:
        path.unlink(missing_ok=True)


@dataclass
class HostTrainerInitInfo(TrainerInitInfo):
    """``folder`` is where the file of a push lies while it is read: shared memory of the one machine."""

    backend: ClassVar[str] = BACKEND
    folder: Path = Path("/dev/shm")


class HostTrainerEngine(TrainerWeightTransferEngine[HostTrainerInitInfo]):
    """The trainer's side of ``ktr_host`` towards another process; set ``source`` before each push."""

    init_info_cls = HostTrainerInitInfo

    def __init__(self, folder: Path, client: VLLMWeightSyncClient, source: WeightSource | None):
        super().__init__(client=client, source=source)
        self.folder = folder

    @classmethod
    def trainer_init(
        cls, init_info: HostTrainerInitInfo, *, client: VLLMWeightSyncClient, source: WeightSource | None = None
    ) -> "HostTrainerEngine":
        client.init_weight_transfer_engine({})
        return cls(init_info.folder, client, source)

    @torch.no_grad()
    def send_weights(self) -> None:
        """One complete update: start, send, finish."""
        assert self.source is not None
        self.client.start_weight_update()
        with weights_file(self.source, self.folder) as path:
            self.client.update_weights({"path": str(path)})
        self.client.finish_weight_update()


def register() -> None:
    """Make ``ktr_host`` known to vLLM in this process; vLLM calls it in each of its own, as a general plugin."""
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, HostWeightTransferEngine)
        WeightTransferTrainerFactory.register_engine(BACKEND, HostTrainerEngine)
    if torch.version.cuda is None:
        # Known by its class, the model isn't inspected in a bare process, where torchvision can't be imported beside a
        # CPU-only torch (see ktr.policy.torchvision_ops).
        for module, name in _MODELS.items():
            model = getattr(import_module(f"vllm.model_executor.models.{module}"), name)
            ModelRegistry.register_model(name, model)
