"""A job of a sweep as a process of its own: it starts clean, and what it leaves behind cannot reach the next one.

Any launcher of Hydra's can be the one that calls: basic, joblib (its workers only wait here) or submitit. The command
is that of the job alone, so it is also what repeats the job by hand; ``record.json`` keeps it.
"""

import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ktr.config.table_rows import is_finished, row_overrides
from ktr.errors import KtrError
from ktr.sweep.lifetime import in_launcher

CONSOLE = "console.log"
# What chooses how a sweep is run. The job has no part in it.
_OF_THE_SWEEP = ("hydra.mode", "hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher")


class JobFailed(KtrError):
    """A job of a sweep that did not end well."""


def run_apart(config: DictConfig) -> None:
    """Run the job of a sweep for which Hydra composed ``config``, and wait for it; a finished row of a table is left.

    Its output goes to ``console.log`` in its folder. Raises JobFailed with the last line of it.
    """
    environment = in_launcher()
    run_dir, hydra = Path(config.paths.run_dir), HydraConfig.get()
    overrides = list(hydra.overrides.task)
    if config.get("table") is not None:
        if is_finished(run_dir):
            return
        overrides = row_overrides(config.table.rows, overrides)
    kept = [override for override in hydra.overrides.hydra if not override.startswith(_OF_THE_SWEEP)]
    other = [] if hydra.job.config_name == "train" else ["--config-name", hydra.job.config_name]
    arguments = [*other, *overrides, *kept, "hydra.mode=RUN"]
    with (run_dir / CONSOLE).open("ab") as console:
        done = subprocess.run(
            [sys.executable, "-m", "ktr.train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    if done.returncode:
        raise JobFailed(
            f"{config.name}: {_last_line(run_dir / CONSOLE)} (exit code {done.returncode}, {run_dir / CONSOLE})"
        )


def _last_line(console: Path) -> str:
    lines = console.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
