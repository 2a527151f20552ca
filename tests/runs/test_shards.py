"""Tensors in parts come back whole, and what is not all there is named."""

from pathlib import Path

import pytest
import torch

from ktr.errors import MissingModel
from ktr.policy.shards import SHARDS, read_shards, read_whole, write_shards
from tests.spawned import on_ranks

pytestmark = pytest.mark.xdist_group("ranks")  # which are forked from one server

TENSORS = {
    "uneven": torch.arange(15.0).view(5, 3),
    "of_one_rank": torch.tensor([[7.0, 8.0]]),
    "half": torch.arange(6.0).bfloat16(),
}


def write(folder: Path) -> None:
    import os

    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    spread = {name: distribute_tensor(tensor, mesh, [Shard(0)]) for name, tensor in TENSORS.items()}
    writing = write_shards(folder / SHARDS, spread, dist.new_group(backend="gloo"))
    for tensor in spread.values():
        tensor.to_local().zero_()  # what is trained meanwhile is of the next checkpoint
    writing.result()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("step-000002")
    on_ranks(write, folder)
    return folder / SHARDS


def test_what_two_ranks_wrote_is_read_whole_and_in_the_dtype_that_it_had(written: Path):
    assert len(list(written.glob("*.safetensors"))) == len(list(written.iterdir())) == 2
    found = read_whole(written, list(TENSORS))
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(2)}, "there is no other, a part of it is missing or of another model"),
        ({"uneven": torch.zeros(4, 3)}, r"uneven is of shape \(5, 3\) there, or a part of it is missing.*\(4, 3\)"),
    ],
)
def test_another_model_is_named(written: Path, tensors: dict[str, torch.Tensor], message: str):
    with pytest.raises(MissingModel, match=rf"{message}; give the model\.\* .* remove .*step-000002"):
        read_shards(written, tensors)


def test_a_part_that_is_missing_or_torn_is_named(written: Path, tmp_path: Path):
    half = tmp_path / "step-000004" / SHARDS
    half.mkdir(parents=True)
    first, second = sorted(written.glob("*.safetensors"))
    (half / first.name).write_bytes(first.read_bytes())
    with pytest.raises(
        MissingModel, match=r"a part of it is missing.*remove .*step-000004 to go on from the checkpoint"
    ):
        read_shards(half, {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()})
    (half / second.name).write_bytes(second.read_bytes()[:-4])
    with pytest.raises(MissingModel, match=r"cannot be read .*remove .*step-000004 to go on"):
        read_shards(half, {"uneven": torch.zeros(5, 3)})
