"""A table from the command line: cut off and started again it is the table of an uncut sweep, and no row runs twice."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from ktr.sweep.run_lock import RunInUse, run_lock
from tests.small_run import Train, finished

pytestmark = pytest.mark.xdist_group("sweep")
ROWS = ("grpo", "e")
TABLE = [
    "+experiment=table/signals", f"table.row={','.join(ROWS)}", "table.seeds=[0]", "trainer.max_steps=4",
    "callbacks.model_checkpoint.every_n_steps=1",
]  # fmt: skip


def folder(runs: Path, row: str) -> Path:
    return runs / "table" / "signals" / f"{row}-s0"


@pytest.fixture(scope="module")
def uncut(start_training: Train, runs_folder: Path) -> tuple[Path, str]:
    """Where a sweep of two rows wrote that nothing disturbed, and what it printed."""
    runs = runs_folder / "uncut"
    return runs, finished(start_training([*TABLE, f"paths.runs={runs}"]))


def contents(runs: Path) -> list[bytes]:
    """What the rows measured, and the table without what was measured by the clock."""
    tables = [runs / "table" / "signals" / name for name in ("table.csv", "rows.csv")]
    return [path.read_bytes() for path in [*(folder(runs, row) / "metrics.csv" for row in ROWS), *tables]]


def wait_until_free(run_dir: Path, limit_s: float = 240.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            with run_lock(run_dir):
                return
        except RunInUse:
            assert time.monotonic() < deadline, "what the sweep had started is still there"
            os.sched_yield()


def test_a_sweep_prints_its_table_and_where_it_is(uncut: tuple[Path, str]):
    runs, printed = uncut
    assert printed.strip().splitlines()[-1] == str(runs / "table" / "signals" / "table.md")
    assert "2 of 2 runs finished" in printed and "Signals that choose the key tokens" in printed


def test_a_sweep_that_was_killed_goes_on_where_it_was_and_gives_the_table_of_one_that_was_not(
    uncut: tuple[Path, str], start_training: Train, runs_folder: Path
):
    runs = runs_folder / "cut"
    sweep = [*TABLE, f"paths.runs={runs}", "hydra.launcher.n_jobs=1"]
    first, second = (folder(runs, row) for row in ROWS)
    victim = start_training(sweep)
    while not list((second / "checkpoints").glob("step-*")):
        assert victim.poll() is None, victim.communicate()[0]
        os.sched_yield()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    wait_until_free(second)  # what the sweep had started is gone too
    assert (first / "summary.json").exists() and not (second / "summary.json").exists()
    said = (first / "console.log").read_bytes()

    finished(start_training(sweep))
    assert contents(runs) == contents(uncut[0])
    assert (first / "console.log").read_bytes() == said  # it was finished, and was not run again


def test_a_row_that_fails_is_named_with_its_log_beside_the_rows_that_did_not(
    uncut: tuple[Path, str], start_training: Train, runs_folder: Path
):
    runs = runs_folder / "failing"
    shutil.copytree(folder(uncut[0], "grpo"), folder(runs, "grpo"))
    broken = folder(runs, "e") / "metrics.csv"
    broken.mkdir(parents=True)  # a folder where a file must be
    process = start_training([*TABLE, f"paths.runs={runs}"])
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "e-s0: ktr.train: StorageError" in printed and "exit code 2" in printed
    assert str(broken.with_name("console.log")) in printed
    assert "Not finished at seed 0: e" in printed and "baseline" in printed
