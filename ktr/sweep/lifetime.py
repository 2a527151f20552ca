"""What a sweep starts ends with it, however it ends: a job's process with the launcher's, that one with the sweep's."""

import ctypes
import os
import signal
import sys

_SWEEP, _LAUNCHER = "KTR_SWEEP", "KTR_LAUNCHER"  # ids of processes, in the environment of those that they start
_PR_SET_PDEATHSIG = 1


def begin_sweep() -> None:
    """Make this process the sweep's: the workers of a launcher are those where ``in_launcher`` finds another id."""
    os.environ[_SWEEP] = str(os.getpid())


def in_launcher() -> dict[str, str]:
    """The environment for a job's process; a launcher's worker that asks for it ends with the process that made it."""
    if os.environ.get(_SWEEP) != str(os.getpid()):
        _end_with(os.getppid())
    return os.environ | {_LAUNCHER: str(os.getpid())}


def in_job() -> None:
    """End this process with the launcher's, if one started it."""
    if (launcher := os.environ.pop(_LAUNCHER, None)) is not None:
        _end_with(int(launcher))


def _end_with(parent: int) -> None:
    if sys.platform != "linux":
        return  # elsewhere the lock on a run's folder still keeps two processes apart
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel could be asked
        os.kill(os.getpid(), signal.SIGKILL)
