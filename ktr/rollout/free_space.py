"""Whether a folder has room for what is to be written there, asked before it is filled."""

import shutil
from pathlib import Path

from ktr.errors import EngineError

_GIB = 2**30


def require_space(engine: str, num_bytes: int, folder: Path) -> None:
    """Raise ``EngineError`` where weights of ``num_bytes`` don't fit into ``folder``, as in a container's /dev/shm.

    A write beyond the end of shared memory is no error of Python but a signal that ends the process.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise EngineError(
            engine,
            f"its weights take {num_bytes / _GIB:.2f} GiB of {folder}, which has {free / _GIB:.2f} GiB left",
            "give the machine more shared memory (docker run --shm-size=…, or mount -o remount,size=… /dev/shm), then "
            "start the run again with the same name",
        )
