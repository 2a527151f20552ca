"""Memory of a rank that holds the whole policy, and of one of two, or more, over which it is spread.

    python -m benchmarks.sharding [--ranks 1 2] [--json sharding.json]

A random model with the 7B's proportions (16 layers, hidden 512), fp32, AdamW, all trained; each rank learns from one
question of 288 visual tokens with G = 4 completions of 32 tokens. Held: bytes of weights, gradients and moments of a
rank between two updates. Peak: what the process has at most within an update above what it had before it had a model,
activations and gathered layers with it.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from benchmarks.small_model import random_group, write_model_folder
from ktr.attribution.views import Factual
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.scoring.scorer import GroupScorer
from ktr.training.equal_passes import EqualPasses
from ktr.training.optim import AdamWCosine
from ktr.training.sharding import shard
from ktr.types import Medium

MIB = 2**20
NUM_UPDATES = 3


def held(tensors: list[Tensor]) -> float:
    """MiB that this rank holds of tensors."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    return sum(part.nbytes for part in parts) / MIB


def resident(field: str) -> float:
    """MiB of this process's pages: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure(rank: int, num_ranks: int, port: int, folder: Path) -> None:
    """Write what one rank held and had at most to ``folder``."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=num_ranks)
    before = resident("VmRSS")
    policy = QwenVLPolicy(folder / "model", gradient_checkpointing=True).train()
    if num_ranks > 1:
        shard(policy, init_device_mesh("cpu", (num_ranks,)))
        EqualPasses(policy)
    optimizer, _ = AdamWCosine(lr=1e-5, total_steps=NUM_UPDATES).build(policy)
    group = random_group([32] * 4, [Medium("video", (8, 12, 12), 1.0)], seed=rank)
    scorer = GroupScorer()
    for update in range(NUM_UPDATES):
        if update == 1:  # the first has loading behind it
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM from here on
        optimizer.zero_grad()
        features = policy.encode_video([group.prompt])
        (scores,) = scorer.score_pass(policy, [group], features, [Factual()], [0])
        (-scores.logps_GT.mean() / num_ranks).backward()
        optimizer.step()
    parameters = list(policy.parameters())
    figures = {
        "weights": held([parameter.detach() for parameter in parameters]),
        "gradients": held([parameter.grad for parameter in parameters if parameter.grad is not None]),
        "moments": held([value for state in optimizer.state.values() for value in state.values() if value.ndim]),
        "peak": resident("VmHWM") - before,
    }
    if rank == 0:
        (folder / f"{num_ranks}.json").write_text(json.dumps(figures))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="where to write the figures, in MiB")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="ktr-benchmark-") as name:
        folder = Path(name)
        write_model_folder(folder / "model", hidden=512, layers=16)
        os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**17)  # what is freed goes back at once
        for num_ranks in arguments.ranks:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            mp.spawn(measure, (num_ranks, port, folder), nprocs=num_ranks)
            found[num_ranks] = figures = json.loads((folder / f"{num_ranks}.json").read_text())
            told = ", ".join(f"{part} {figure:.0f}" for part, figure in figures.items())
            sys.stdout.write(f"{num_ranks} ranks, MiB a rank: {told}\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
