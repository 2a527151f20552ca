"""A function on several ranks, each a process of its own, which find each other as Lightning's own do.

They are forked from one server, which loads what all ranks of all tests of a session need once.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp

import ktr  # noqa: F401  (before torchvision is imported, which it makes possible beside a torch without CUDA)

PRELOADED = ["ktr", "tests.loaded", "tests.sharded_run"]  # no thread runs after them


def on_ranks(work: Callable[..., None], *arguments: Any, num_ranks: int = 2) -> None:
    """Call ``work(*arguments)`` in each of ``num_ranks`` processes."""
    running = start_ranks(work, *arguments, num_ranks=num_ranks)
    while not running.join():
        pass


def in_own_process(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in a process that may be left as no other test could use it."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    mp.start_processes(_alone, (work, *arguments), start_method="forkserver")


def start_ranks(work: Callable[..., None], *arguments: Any, num_ranks: int = 2) -> mp.ProcessContext:
    """As ``on_ranks``, and don't wait for their ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.set_forkserver_preload(PRELOADED)
    given = (num_ranks, port, work, *arguments)
    return mp.start_processes(_on_rank, given, nprocs=num_ranks, join=False, start_method="forkserver")


def _alone(_: int, work: Callable[..., None], *arguments: Any) -> None:
    work(*arguments)


def _on_rank(rank: int, num_ranks: int, port: int, work: Callable[..., None], *arguments: Any) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["LOCAL_WORLD_SIZE"] = str(num_ranks)
    work(*arguments)
    dist.destroy_process_group()
