"""One process at a time writes a run's folder."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ktr.errors import KtrError


class RunInUse(KtrError):
    """A run folder that another process is writing."""


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` for this process; the system lets go of it however the process ends. Raises RunInUse.

    Processes that this one launches as further ranks of the same run (``LOCAL_RANK``) take no lock of their own.
    """
    if "LOCAL_RANK" in os.environ:
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunInUse(
                f"{run_dir} is being written by {file.read().strip()}: wait for it, or give name=…"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
