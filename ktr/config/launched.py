"""Which rank of a distributed run this process is, by what its launcher says: known before torch is loaded."""

import os


def is_rank_0() -> bool:
    """Whether this process is the first of its run, on whatever node and however it was launched.

    torchrun says it in RANK, whatever SLURM counts its processes. Else a further task of SLURM's, a process that was
    started by hand on a further node, and one that the first of a node launched each have a number of their own.
    """
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    numbers = ("SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in numbers)


def starts_apart_from_others() -> bool:
    """Whether other ranks of the run start by themselves, and not from this process, which could tell them anything."""
    several = any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return several or "NODE_RANK" in os.environ
