"""SIGKILL of a sweep's process ends its launcher's workers and their jobs."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# The job holds the pipe open for as long as it lives; the sweep and the worker have closed it.
JOB = """
import os, sys
from ktr.sweep.lifetime import in_job
in_job()
os.write(int(sys.argv[1]), b"j")
sys.stdin.read()
"""
WORKER = """
import os, subprocess, sys
from ktr.sweep.lifetime import in_launcher
pipe = int(sys.argv[1])
command = [sys.executable, "-c", sys.argv[2], str(pipe)]
job = subprocess.Popen(command, env=in_launcher(), pass_fds=[pipe], stdin=subprocess.PIPE)
os.close(pipe)
job.wait()
"""
SWEEP = """
import os, subprocess, sys
from ktr.sweep.lifetime import begin_sweep
begin_sweep()
pipe = int(sys.argv[1])
worker = subprocess.Popen([sys.executable, "-c", sys.argv[3], str(pipe), sys.argv[2]], pass_fds=[pipe])
os.close(pipe)
worker.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_job_does_not_outlive_its_sweep():
    reading, writing = os.pipe()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SWEEP, str(writing), JOB, WORKER]
    sweep = subprocess.Popen(command, env=environment, pass_fds=[writing])
    os.close(writing)
    assert os.read(reading, 1) == b"j"  # the job runs
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    ended, _, _ = select.select([reading], [], [], 30)
    assert ended and os.read(reading, 1) == b""  # nobody is left who could write


def test_a_job_that_nobody_launched_has_nobody_to_follow(monkeypatch: pytest.MonkeyPatch):
    from ktr.sweep import lifetime

    followed: list[int] = []
    monkeypatch.setattr(lifetime, "_end_with", followed.append)
    monkeypatch.delenv("KTR_LAUNCHER", raising=False)
    lifetime.in_job()
    assert followed == []
    monkeypatch.setenv("KTR_LAUNCHER", "42")
    lifetime.in_job()
    assert followed == [42] and "KTR_LAUNCHER" not in os.environ  # what the job starts itself follows the job
