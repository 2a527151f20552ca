"""Laws of the guard: whatever ends the trainer or the server, nothing that belonged to the server is left."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ktr.errors import ConfigError
from ktr.rollout.servers.process import ServerProcess

DEADLINE_S = 90.0

# A server with a child in a session of its own, a file in TMPDIR, and one in shared memory that both have mapped.
SERVER = """
import json, mmap, os, signal, sys, tempfile, time
stubborn = "stubborn" in sys.argv
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
scratch = tempfile.mkstemp()[1]
handle, shared = tempfile.mkstemp(dir="/dev/shm", prefix="ktr-test-")
os.truncate(shared, 4096)
mapped = [mmap.mmap(handle, 4096)]
for path in sys.argv[3:]:
    mapped.append(mmap.mmap(os.open(path, os.O_RDWR), 4096))
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(600)
with open(sys.argv[1], "w") as ready:
    json.dump({"pids": [os.getpid(), child], "files": [scratch, shared]}, ready)
time.sleep(600)
"""
TRAINER = """
import os, sys, time
from pathlib import Path
from ktr.rollout.servers.process import ServerProcess
folder = Path(sys.argv[1])
server = ServerProcess([sys.executable, "-c", (folder / "server.py").read_text(), str(folder / "ready"), "meek"],
                       os.environ, folder / "log")
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(600)  # a worker of a data loader, say: it has a copy of the pipe to the guard
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    os.mkfifo(tmp_path / "ready")
    return tmp_path


def command(folder: Path, manner: str = "meek", *mapped: Path) -> list[str]:
    return [sys.executable, "-c", SERVER, str(folder / "ready"), manner, *map(str, mapped)]


def told(folder: Path) -> dict:
    """What the server says once it runs."""
    handle = os.open(folder / "ready", os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle) as ready:
        assert select.select([ready], [], [], DEADLINE_S)[0], "the server did not start"
        os.set_blocking(handle, True)
        return json.load(ready)


def assert_ends(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], DEADLINE_S)[0], f"process {pid} is still there"
    finally:
        os.close(handle)


def assert_nothing_left(server: dict, *folders: Path) -> None:
    for pid in server["pids"]:
        assert_ends(pid)
    left = [path for path in (*map(Path, server["files"]), *folders) if path.exists()]
    assert not left


def test_closing_ends_every_descendant_and_removes_every_file(folder: Path):
    process = ServerProcess(command(folder), os.environ, folder / "log")
    server = told(folder)
    assert process.pid == server["pids"][0] and process.exit_code is None
    assert Path(server["files"][0]).parent == process.folder
    process.close()
    assert_nothing_left(server, process.folder, process.shared_folder)
    process.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_guard_ends_all(folder: Path, how: signal.Signals):
    process = ServerProcess(command(folder), os.environ, folder / "log")
    server = told(folder)
    process._guard.send_signal(how)
    process._guard.wait(DEADLINE_S)
    assert_nothing_left(server, process.folder, process.shared_folder)
    process.close()


def test_when_the_server_is_killed_the_rest_of_it_ends_and_the_code_is_known(folder: Path):
    process = ServerProcess(command(folder), os.environ, folder / "log")
    server = told(folder)
    os.kill(process.pid, signal.SIGKILL)
    assert process._guard.wait(DEADLINE_S) == 128 + signal.SIGKILL
    assert_nothing_left(server, process.folder, process.shared_folder)
    process.close()


@pytest.mark.parametrize("forked", ["", "fork"])
def test_a_killed_trainer_leaves_nothing_even_if_a_fork_of_it_lives(folder: Path, forked: str):
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, str(folder), forked], start_new_session=True)
    server = told(folder)
    guard = parent(server["pids"][0])
    trainer.kill()
    trainer.wait()
    try:
        for pid in server["pids"]:
            assert_ends(pid)
    finally:
        os.killpg(trainer.pid, signal.SIGKILL) if forked else None
    assert_ends(guard)  # it removes files after the last process
    assert_nothing_left(server, Path(server["files"][0]).parent)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_server_that_ignores_the_request_is_killed_after_the_grace(folder: Path):
    short = "import sys; from ktr.rollout.servers import guard as g; g.GRACE_S = 0.1; sys.exit(g.main())"
    guard = subprocess.Popen([sys.executable, "-c", short], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    order = {"command": command(folder, "stubborn"), "environment": {}, "log": str(folder / "log")}
    assert guard.stdin is not None
    guard.stdin.write(json.dumps(order | {"folder_variables": []}).encode() + b"\n")
    guard.stdin.flush()
    server = told(folder)
    guard.communicate(timeout=DEADLINE_S)
    assert guard.returncode == 128 + signal.SIGKILL
    for pid in server["pids"]:
        assert_ends(pid)


def test_a_killed_guard_ends_the_server(folder: Path):
    process = ServerProcess(command(folder), os.environ, folder / "log")
    server = told(folder)
    process._guard.kill()
    assert_ends(server["pids"][0])
    process.close()
    assert not process.folder.exists() and not process.shared_folder.exists()
    os.kill(server["pids"][1], signal.SIGKILL)  # in a session of its own, it was the guard's to find
    Path(server["files"][1]).unlink()


def test_shared_memory_from_before_the_server_is_kept(folder: Path):
    older = Path("/dev/shm") / f"ktr-test-older-{os.getpid()}"
    older.write_bytes(bytes(4096))
    os.utime(older, (0, 0))
    try:
        process = ServerProcess(command(folder, "meek", older), os.environ, folder / "log")
        server = told(folder)
        os.utime(older, (0, 0))
        process.close()
        assert_nothing_left(server)
        assert older.exists()
    finally:
        older.unlink()


def test_a_terminal_cannot_interrupt_the_server_before_the_trainer_does(folder: Path):
    process = ServerProcess(command(folder), os.environ, folder / "log")
    try:
        assert os.getsid(process.pid) != os.getsid(0)
        assert os.getpgid(process.pid) not in (os.getpgid(0), os.getpgid(process._guard.pid))
    finally:
        process.close()


def test_a_placement_starts_it_elsewhere_with_its_key_in_no_list_of_processes(folder: Path):
    there = (
        "import os, sys; print('queued', flush=True); os.environ['NODE'] = 'n7'; os.execv(sys.argv[1], sys.argv[1:])"
    )
    says = (
        "import json, os; print(json.dumps(dict(os.environ)), flush=True); open(os.environ['READY'], 'w').write('{}')"
    )
    secret = {"SECRET": "k-3-y", "HOME": None, "READY": str(folder / "ready")}
    placement = [sys.executable, "-c", there]
    process = ServerProcess([sys.executable, "-c", says], secret, folder / "log", placement=placement)
    command_line = Path(f"/proc/{process._guard.pid}/cmdline").read_bytes()
    told(folder)
    process.close()
    environment = json.loads((folder / "log").read_text().splitlines()[-1])
    assert (environment["NODE"], environment["SECRET"]) == ("n7", "k-3-y") and "HOME" not in environment
    assert environment["TMPDIR"] == str(process.folder) and b"k-3-y" not in command_line


def test_a_placement_that_fails_or_starts_nothing_says_why(folder: Path):
    fails = [sys.executable, "-c", "import sys; sys.exit('srun: error: Invalid node name specified')"]
    process = ServerProcess(command(folder), {}, folder / "log", placement=fails)
    assert process.exit_code is not None and process.reason() == "error: Invalid node name specified"
    process.close()
    waits = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = ServerProcess(command(folder), {}, folder / "log", placement=waits, start_limit_s=0.2)
    assert process.exit_code is not None and process.reason() == "error: no process was started within 0.2 s"
    process.close()


def test_a_placement_that_this_machine_lacks_is_named_with_its_key(folder: Path):
    with pytest.raises(ConfigError, match=r"rollout\.placement\.command: there is no command no-srun .*placement=here"):
        ServerProcess(command(folder), {}, folder / "log", placement=["no-srun", "--nodelist=n3"])


NOTING_FOLDERS = """
import runpy, sys, tempfile
make, (file, *_, guard) = tempfile.mkdtemp, sys.argv[1:]

def noted(**options):
    with open(file, "a") as notes:
        print(made := make(**options), file=notes)
    return made

tempfile.mkdtemp = noted
runpy.run_path(guard, run_name="__main__")
"""


def test_a_command_that_is_not_there_says_so_and_leaves_no_folder(folder: Path):
    placement = [sys.executable, "-c", NOTING_FOLDERS, str(folder / "made")]
    process = ServerProcess([str(folder / "missing")], {}, folder / "log", placement=placement)
    process._guard.wait(DEADLINE_S)
    assert "No such file or directory" in process.reason()
    process.close()
    made = [Path(line) for line in (folder / "made").read_text().splitlines()]
    assert len(made) == 2 and not any(path.exists() for path in made)


def test_the_guard_loads_the_standard_library_only():
    code = "import sys, ktr.rollout.servers.guard; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "vllm", "httpx", "lightning", "jaxtyping"} & set(loaded)


REFUSALS = {
    "ValueError: Head size 16 is not supported": [
        "INFO starting",
        "(EngineCore pid=7) ERROR 11-22 [core.py:1] Traceback (most recent call last):",
        "(EngineCore pid=7) ERROR 11-22 [core.py:1] ValueError: Head size 16 is not supported",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ],
    "Value error, max_model_len (9) is greater than 8": [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, max_model_len (9) is greater than 8 [type=value_error, input_value=ArgsKwargs(())]",
    ],
    "OSError: [Errno 98] Address already in use": ["OSError: [Errno 98] Address already in use"],
    "Killed": ["loading", "Killed", ""],
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_the_reason_is_the_first_error_that_no_other_caused(tmp_path: Path, reason: str):
    log = tmp_path / "log"
    log.write_text("ValueError: of an earlier start\n")
    command = [sys.executable, "-c", f"print({chr(10).join(REFUSALS[reason])!r})"]
    process = ServerProcess(command, os.environ, log, consequences="initialization failed|validation error")
    process._guard.wait(DEADLINE_S)
    try:
        assert process.exit_code == 0
        assert process.reason() == reason
    finally:
        process.close()
