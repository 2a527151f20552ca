"""``python -m ktr.train``: compose → check → instantiate → run; of a sweep, each job in a process of its own."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ktr.config.command_line import launch
from ktr.config.launched import is_rank_0
from ktr.config.resumption import check_resumption
from ktr.config.run_names import FOLDER_OF_RANK_0
from ktr.config.search_path import CONF
from ktr.errors import KtrError
from ktr.sweep.fresh_process import run_apart
from ktr.sweep.lifetime import begin_sweep, in_job
from ktr.sweep.progress import SweepProgress
from ktr.sweep.run_lock import run_lock
from ktr.sweep.twin import copy_twin


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train(config: DictConfig) -> None:
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return run_apart(config)
    changed = check_resumption(config)
    OmegaConf.resolve(config)
    _one_thread(config)
    os.environ[FOLDER_OF_RANK_0] = config.paths.folder
    run_dir = Path(config.paths.run_dir)
    with run_lock(run_dir):
        if config.table is not None and copy_twin(config):
            return
        from ktr.training.run import run_training  # heavy imports only once the command line is known to be right

        run_training(config, changed)
    if is_rank_0():
        sys.stdout.write(f"{run_dir / 'report.html'}\n")


@contextmanager
def sweep(jobs: Sequence[DictConfig]) -> Iterator[None]:
    """While the jobs run, say how far they are; after them, also where some failed, print the table that they make."""
    begin_sweep()
    _one_thread(jobs[0])
    try:
        with SweepProgress(jobs):
            yield
    except KtrError:
        with suppress(KtrError):  # what the table lacks is told by the failure of its rows
            _print_table(jobs[0])
        raise
    _print_table(jobs[0])


def _print_table(job: DictConfig) -> None:
    if job.get("table") is not None:
        from ktr.tables.files import report_tables  # draws figures: a single run starts without it

        text, written = report_tables(Path(job.paths.run_dir).parent)
        sys.stdout.write(f"{text}\n{written[-1]}\n")


def _one_thread(config: DictConfig) -> None:
    """Rows of a table on a CPU take one thread each, unless told otherwise: then their sums don't depend on the number
    of cores, and side by side they are faster than one after the other with all threads."""
    if config.get("table") is not None and config.trainer.accelerator == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", "1")


if __name__ == "__main__":
    in_job()
    launch(train, "train", sweep)
