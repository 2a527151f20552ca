"""A run's folder has one writer at a time, and a dead one leaves no lock behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ktr.sweep.run_lock import RunInUse, run_lock

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from ktr.sweep.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    message = rf"{tmp_path} is being written by process {holder.pid} on .*: wait for it"
    with pytest.raises(RunInUse, match=message), run_lock(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with run_lock(tmp_path):
        pass


def test_the_folder_is_free_again_afterwards(tmp_path: Path):
    for _ in range(2):
        with run_lock(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()


def test_a_further_rank_of_the_run_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with run_lock(tmp_path):
        held = (tmp_path / ".lock").read_text()
        monkeypatch.setenv("LOCAL_RANK", "1")
        with run_lock(tmp_path):
            assert (tmp_path / ".lock").read_text() == held
