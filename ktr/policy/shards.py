"""Tensors in parts: each rank writes those that it holds, as safetensors, and any number of ranks reads them again.

By torch's distributed checkpointing, which knows where in its tensor each part belongs. No pickle is written or read.
"""

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from ktr.errors import MissingModel

SHARDS = "shards"  # the folder's name, in that of a checkpoint


def write_shards(folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup) -> "Future[Any]":
    """Write the parts of ``tensors`` as they are now, in a thread; to be called on all ranks of ``group``.

    ``group`` is of a backend for CPUs and is used by nothing else meanwhile.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    return cast("Future[Any]", dcp.async_save({**tensors}, storage_writer=writer, process_group=group))


def read_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Give each of ``tensors``, whole or this rank's part of one, the values that it was written with.

    Raises ``MissingModel`` where they are not all there, or of another shape.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        written = reader.read_metadata().state_dict_metadata
        for name, tensor in tensors.items():
            _check(folder, name, tensor, written.get(name))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            dcp.load({**tensors}, storage_reader=reader, no_dist=True)
    except (OSError, SafetensorError) as error:
        raise MissingModel(f"{folder}: its files cannot be read ({error}); {_remedy(folder)}") from error


def read_whole(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """All of each of the tensors called ``names``. Raises as ``read_shards``."""
    written = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    sizes = {name: cast(TensorStorageMetadata, written[name]) for name in names if name in written}
    tensors = {name: torch.zeros(found.size, dtype=found.properties.dtype) for name, found in sizes.items()}
    read_shards(folder, {name: tensors.get(name, torch.zeros(0)) for name in names})
    return tensors


def _check(folder: Path, name: str, tensor: Tensor, written: Any) -> None:
    if not isinstance(written, TensorStorageMetadata):
        raise MissingModel(
            f"{folder}: there is no {name}, a part of it is missing or of another model; {_remedy(folder)}"
        )
    there, asked = tuple(written.size), tuple(tensor.shape)
    if sum(prod(chunk.sizes) for chunk in written.chunks) != prod(asked):
        raise MissingModel(
            f"{folder}: {name} is of shape {there} there, or a part of it is missing, and the model has {asked}; "
            f"{_remedy(folder)}"
        )


def _remedy(folder: Path) -> str:
    return (
        "give the model.* that the run was begun with or, if it was written by halves, remove "
        f"{folder.parent} to go on from the checkpoint before"
    )
