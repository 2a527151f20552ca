"""How long ranks wait for each other: at the start, while some still load, and within a run."""

from datetime import timedelta

from torch.distributed.distributed_c10d import _get_default_store, _set_pg_timeout


def limit_exchanges(limit: timedelta) -> None:
    """Have the ranks, which have met, wait no longer than ``limit`` for each other from now on."""
    _set_pg_timeout(limit)
    _get_default_store().set_timeout(limit)
