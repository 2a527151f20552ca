"""A server that this run started: one guarded process group with a port, a log and folders of its own."""

import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ktr.rollout.servers import guard

log = logging.getLogger(__name__)

# An error of Python's at the start of a line, possibly behind a logger's prefix, or pydantic's own wording of one.
_REASON = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .+|Value error, .+|error: .+)$")
_LONGEST_SOCKET_FOLDER = 60  # a path of a Unix socket has 107 characters at most, and a server appends some 40


class ServerProcess:
    """``command`` under ``ktr.rollout.servers.guard``; it ends with this process, whatever ends that.

    ``environment`` is all of its environment, but for the ``folder_variables``, which name a folder of its own that is
    removed with it; ``shared_folder`` lies in shared memory and is removed likewise. Lines of its log that match
    ``consequences`` tell what another error led to, and are no reason.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        folder_variables: Sequence[str] = ("TMPDIR",),
        consequences: str = "(?!)",
    ):
        self.log_path, self._consequences = log_path, re.compile(consequences)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("a", encoding="utf-8") as log_file:  # with which another machine can start one too
            log_file.write(f"$ {shlex.join(command)}\n")
        self._log_start = log_path.stat().st_size
        self.folder = Path(tempfile.mkdtemp(prefix="ktr-server-", dir=_temporary_folder()))
        self.shared_folder = Path(tempfile.mkdtemp(prefix="ktr-server-", dir=_shared_memory()))
        guarded = [sys.executable, "-I", "-S", guard.__file__, str(log_path)]
        guarded += [f"--remove={self.folder}", f"--remove={self.shared_folder}", "--", *command]
        variables = dict.fromkeys(folder_variables, str(self.folder))
        self._guard = subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,  # held open for as long as the server is wanted
            stdout=subprocess.PIPE,
            env=dict(environment) | variables,
            start_new_session=True,  # Ctrl-C in the terminal is for the trainer, which then closes its servers
        )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline() or 0)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._guard.poll()

    def reason(self) -> str:
        """What the log gives as the reason of the end: its first error that is not the consequence of another."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        reasons = [match.group(1) for line in lines if (match := _REASON.search(line.rstrip()))]
        causes = [reason for reason in reasons if not self._consequences.search(reason)]
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
        return next(iter(causes or reasons), last).split(" [type=")[0][:500]

    def close(self) -> None:
        """End the server and everything it started, and wait until all of it is gone. May be called twice."""
        assert self._guard.stdin is not None and self._guard.stdout is not None
        self._guard.stdin.close()
        self._guard.terminate()  # a forked child of the trainer may hold its end of the pipe too
        try:
            self._guard.wait(guard.GRACE_S + 20)
        except subprocess.TimeoutExpired:
            log.warning("the guard of server %d does not end; it is killed", self.pid)
            self._guard.kill()
            self._guard.wait()
        if self._guard.returncode == -signal.SIGKILL:  # nobody guarded the server's end
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._guard.stdout.close()
        for folder in (self.folder, self.shared_folder):  # already gone, unless the guard itself was killed
            shutil.rmtree(folder, ignore_errors=True)


def free_port(host: str) -> int:
    """A port that was free a moment ago; whoever is given it reports where it no longer is."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _temporary_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _LONGEST_SOCKET_FOLDER - len("/ktr-server-12345678") else "/tmp"


def _shared_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
