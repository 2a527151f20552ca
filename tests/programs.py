"""A program in a process of its own, as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# Runs a program and writes, last on stderr, whether any heavy package was imported on the way.
WATCHED = """
import atexit, runpy, sys
heavy = ("torch", "lightning", "transformers", "peft", "av", "wandb", "scipy")
atexit.register(lambda: sys.stderr.write("imported: " + ",".join(m for m in heavy if m in sys.modules) + "\\n"))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def outside_environment() -> dict[str, str]:
    """A user's: runs are below the folder in which the command is given."""
    return {key: value for key, value in os.environ.items() if key != "KTR_RUNS"} | {"PYTHONPATH": str(REPOSITORY)}


def ktr(program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = outside_environment()
    command = [sys.executable, "-c", WATCHED, f"ktr.{program}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)
