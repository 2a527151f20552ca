"""A server that this run started, here or on another node: one guarded process group with a log and own folders."""

import json
import logging
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ktr.errors import ConfigError
from ktr.rollout.servers import guard

log = logging.getLogger(__name__)

# An error of Python's at the start of a line, possibly behind a logger's prefix, or pydantic's own wording of one.
_REASON = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .+|Value error, .+|error: .+)$")


class ServerProcess:
    """``command`` under ``ktr.rollout.servers.guard``; it ends with this process, whatever ends that.

    ``placement`` is the start of a command line that runs the rest of it on another node, and hands its stdin and
    stdout on; empty: here. ``environment`` holds changes to the one there (None: taken out). ``folder_variables`` name
    a folder of the server's own that is removed with it, and ``shared_folder`` lies in shared memory and is removed
    likewise. Lines of its log that match ``consequences`` tell what another error led to, and are no reason. What does
    not start within ``start_limit_s`` is ended. Raises ConfigError where this machine has no such ``placement``.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str | None],
        log_path: Path,
        folder_variables: Sequence[str] = ("TMPDIR",),
        consequences: str = "(?!)",
        placement: Sequence[str] = (),
        start_limit_s: float = 600.0,
    ):
        self.log_path, self._consequences, self._is_here = log_path, re.compile(consequences), not placement
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("a", encoding="utf-8") as log_file:  # with which another machine can start one too
            log_file.write(f"$ {shlex.join(command)}\n")
        self._log_start = log_path.stat().st_size
        order = {
            "command": [*command], "environment": dict(environment), "log": str(log_path.absolute()),
            "folder_variables": [*folder_variables],
        }  # fmt: skip
        start = [*placement, sys.executable, "-I", "-S", guard.__file__]
        if shutil.which(start[0]) is None:
            raise ConfigError(
                f"rollout.placement.command: there is no command {start[0]} on this machine; install it, or choose "
                "another placement (rollout/placement=here, slurm or ssh)"
            )
        with log_path.open("ab") as log_file:
            self._guard = subprocess.Popen(
                start,
                stdin=subprocess.PIPE,  # held open for as long as the server is wanted
                stdout=subprocess.PIPE,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C in the terminal is for the trainer, which then closes its servers
            )
        self._tell(json.dumps(order).encode() + b"\n")
        told = self._first_line(start_limit_s)
        self.pid: int = told.get("pid", 0)
        self.folder, self.shared_folder = (Path(told.get(name, "")) for name in ("folder", "shared_folder"))
        if not told:
            if self._guard.poll() is None:
                with log_path.open("a", encoding="utf-8") as log_file:
                    log_file.write(f"error: no process was started within {start_limit_s:g} s\n")
            self._guard.kill()
            self._guard.wait()

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
        self._tell(b"\n")  # closing alone does not do: a forked child of the trainer may hold its end of the pipe too
        with suppress(BrokenPipeError):
            self._guard.stdin.close()
        try:
            self._guard.wait(guard.GRACE_S + 20)
        except subprocess.TimeoutExpired:
            log.warning("the guard of server %d does not end; it is killed", self.pid)
            self._guard.kill()
            self._guard.wait()
        self._guard.stdout.close()
        if self._is_here and self.pid and self._guard.returncode == -signal.SIGKILL:  # nobody guarded the server's end
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            for folder in (self.folder, self.shared_folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, line: bytes) -> None:
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it ended, or was closed; its exit code tells
            self._guard.stdin.write(line)
            self._guard.stdin.flush()

    def _first_line(self, limit_s: float) -> dict[str, Any]:
        """What the guard says once the server runs, after whatever a placement's command says; empty if nothing."""
        assert self._guard.stdout is not None
        said, deadline = b"", time.monotonic() + limit_s
        while select.select([self._guard.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (new := os.read(self._guard.stdout.fileno(), 4096)):
                break
            said += new
            for line in said.splitlines(keepends=True):
                if line.startswith(b'{"pid": ') and line.endswith(b"\n"):
                    return json.loads(line)
        return {}


def free_port(host: str) -> int:
    """A port that was free a moment ago; whoever is given it reports where it no longer is."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
