"""Which rank of a distributed run this process is, by what its launcher says: known before torch is loaded."""

import os


def is_rank_0() -> bool:
    """Whether this process is the first of its run, on whatever node and however it was launched.

    torchrun gives RANK, SLURM SLURM_PROCID; a process that was started by hand on a further node has NODE_RANK, and one
    that the first of its node launched has LOCAL_RANK.
    """
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"))
