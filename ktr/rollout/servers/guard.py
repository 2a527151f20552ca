"""Runs a server and ends all of it when the trainer ends, however that comes about. Standard library only.

    python ktr/rollout/servers/guard.py < order

The order is a line of JSON, so that it goes through any command that starts a process on another node, and no list of
processes shows what is in it: ``command``, ``log`` for its output, ``environment`` as changes to the guard's own (null:
taken out), ``folder_variables`` that name the command's folder. The command runs in a process group of its own; the
guard tells, as one line of JSON, its ``pid``, its ``folder`` and its ``shared_folder`` in shared memory. It ends the
command and everything that it started (SIGTERM, a grace, SIGKILL) as soon as

- anything more is on its stdin, that closes, or its parent is gone: the trainer closed the server, or ended, by SIGKILL
  too;
- it gets SIGTERM or SIGINT;
- the command's own process ends.

Then it removes both folders and what the processes had mapped from /dev/shm, and exits with the command's code. If the
guard itself is killed, the kernel sends the command SIGTERM.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GRACE_S = 10.0  # between SIGTERM and SIGKILL
_SHARED = "/dev/shm/"
_LONGEST_SOCKET_FOLDER = 60  # a path of a Unix socket has 107 characters at most, and a server appends some 40
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None)


def main() -> int:
    """Guard one command until it or the trainer ends; its exit code, 128 + n where signal n ended it."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # unbuffered: what comes after is for select
        line = stdin.readline()
    if not line:  # the trainer is gone already
        return 1
    order = json.loads(line)
    parent, started = os.getppid(), time.time()
    folder = tempfile.mkdtemp(prefix="ktr-server-", dir=_temporary_folder())
    shared_folder = tempfile.mkdtemp(prefix="ktr-server-", dir=_shared_memory())
    environment = os.environ | order["environment"] | dict.fromkeys(order["folder_variables"], folder)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # whatever the server starts stays a descendant of the guard
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # it only has to wake the loop

    server, shared = None, set[str]()
    try:
        with open(order["log"], "ab") as log:
            server = subprocess.Popen(
                order["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in environment.items() if value is not None},
                process_group=0,
                preexec_fn=_end_with_parent(os.getpid()),
            )
        print(json.dumps({"pid": server.pid, "folder": folder, "shared_folder": shared_folder}), flush=True)
        while not _told_to_end(wake, parent) and server.poll() is None:
            shared |= _shared_files(_descendants(os.getpid()))
    finally:
        shared |= _shared_files(_descendants(os.getpid()))
        if server is not None:
            _end(server)
        for path in (folder, shared_folder, *shared):
            _remove(Path(path), started)
    assert server is not None  # else what kept it from starting was raised
    code = server.returncode
    return code if code >= 0 else 128 - code


def _end_with_parent(guard: int) -> Callable[[], None]:
    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != guard:  # it died in between
            os._exit(1)

    return before_exec


def _told_to_end(wake: int, parent: int) -> bool:
    """Wait a second at most; True once stdin has more or is closed, the parent is gone, or a signal says so."""
    readable, _, _ = select.select([0, wake], [], [], 1.0)
    if wake in readable and set(os.read(wake, 64)) - {signal.SIGCHLD}:
        return True
    return os.getppid() != parent or 0 in readable


def _end(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server and all that it started, SIGKILL to what is left after the grace; none is left unreaped."""
    deadline = time.monotonic() + GRACE_S
    asked: set[int] = set()
    while remaining := _descendants(os.getpid()):
        number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        for pid in remaining:
            if number == signal.SIGKILL or pid not in asked:
                asked.add(pid)
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
        server.poll()
        _reap(server.pid)
        time.sleep(0.02)
    server.wait()


def _reap(server: int) -> None:
    """Collect ended processes that came to the guard as orphans; the server's own end is its Popen's to collect."""
    for pid in _descendants(os.getpid(), zombies=True):
        if pid != server:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # it is someone else's child still
                continue


def _descendants(root: int, zombies: bool = False) -> set[int]:
    """All processes below ``root``, without those that have ended and only wait to be reaped."""
    children: dict[int, list[int]] = {}
    ended: set[int] = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            # pid (name) state ppid …, and the name may hold spaces and brackets
            state, ppid = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(ppid), []).append(int(entry))
        if state in "ZX":
            ended.add(int(entry))
    found, stack = set(), [root]
    while stack:
        below = children.get(stack.pop(), [])
        found.update(below)
        stack.extend(below)
    return found if zombies else found - ended


def _shared_files(pids: set[int]) -> set[str]:
    """The files in shared memory that any of the processes has mapped."""
    names: set[str] = set()
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        names.update(line[line.index(_SHARED) :] for line in maps.splitlines() if _SHARED in line)
    return names


def _temporary_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _LONGEST_SOCKET_FOLDER - len("/ktr-server-12345678") else "/tmp"


def _shared_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _remove(path: Path, started: float) -> None:
    """A folder of the server's own, or a file that is ours and came into being after the server."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.is_file():
        status = path.stat()
        if status.st_uid == os.getuid() and status.st_mtime >= started - 1:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
