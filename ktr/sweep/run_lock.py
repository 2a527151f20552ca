"""One process at a time writes a run's folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ktr.config.launched import is_rank_0
from ktr.errors import KtrError


class RunInUse(KtrError):
    """A run folder that another process is writing."""


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir`` for this process; the system lets go of it however the process ends. Raises RunInUse.

    Further ranks of a run take no lock of their own.
    """
    if not is_rank_0():
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / ".lock"
    try:
        # Not the lock of a mere file, which a killed process would leave behind.
        lock = FileLock(file, blocking=False, fallback_to_soft=False).acquire()
    except Timeout:
        holder = file.read_text().strip()
        raise RunInUse(f"{run_dir} is being written by {holder}: wait for it, or give name=…") from None
    with lock:
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
