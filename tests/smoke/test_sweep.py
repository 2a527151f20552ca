"""A table from the command line: cut off and started again it is the table of an uncut sweep, and no row runs twice."""

import os
import signal
from pathlib import Path

from ktr.sweep.run_lock import RunInUse, run_lock
from tests.smoke.conftest import Train, finished

ROWS = ["+experiment=table/signals", "table.row=grpo,e", "table.seeds=[0]", "trainer.max_steps=4"]
CHECKPOINTS = "callbacks.model_checkpoint.every_n_steps=1"


def contents(runs: Path) -> tuple[bytes, ...]:
    """What the rows measured, and the table without what was measured by the clock."""
    folder = runs / "table" / "signals"
    metrics = [(folder / f"{row}-s0" / "metrics.csv").read_bytes() for row in ("grpo", "e")]
    return (*metrics, (folder / "table.csv").read_bytes(), (folder / "rows.csv").read_bytes())


def wait_until_free(run_dir: Path) -> None:
    while True:
        try:
            with run_lock(run_dir):
                return
        except RunInUse:
            os.sched_yield()


def test_a_sweep_that_was_killed_goes_on_and_gives_the_table_of_one_that_was_not(
    start_training: Train, smoke_folder: Path
):
    uncut, cut = smoke_folder / "uncut", smoke_folder / "cut"
    printed = finished(start_training([*ROWS, CHECKPOINTS, f"paths.runs={uncut}"]))
    assert printed.strip().splitlines()[-1] == str(uncut / "table" / "signals" / "table.md")
    assert "2 of 2 runs finished" in printed and "Signals that choose the key tokens" in printed

    folders = [cut / "table" / "signals" / f"{row}-s0" for row in ("grpo", "e")]
    victim = start_training([*ROWS, CHECKPOINTS, f"paths.runs={cut}"])
    while not any(list((folder / "checkpoints").glob("step-*")) for folder in folders):
        assert victim.poll() is None, victim.communicate()[0]
        os.sched_yield()
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    for folder in folders:  # what the sweep had started is gone too, or this waits for ever
        wait_until_free(folder)
    assert not all((folder / "summary.json").exists() for folder in folders)

    finished(start_training([*ROWS, CHECKPOINTS, f"paths.runs={cut}"]))
    assert contents(cut) == contents(uncut)

    logs = [(folder / "console.log").read_bytes() for folder in folders]
    finished(start_training([*ROWS, CHECKPOINTS, f"paths.runs={cut}"]))
    assert [(folder / "console.log").read_bytes() for folder in folders] == logs  # nothing was run again


def test_a_row_that_fails_is_named_with_its_log_and_the_others_run(start_training: Train, smoke_folder: Path):
    runs = smoke_folder / "failing"
    broken = runs / "table" / "signals" / "e-s0" / "metrics.csv"
    broken.mkdir(parents=True)  # a folder where a file must be
    process = start_training([*ROWS[:3], "trainer.max_steps=1", f"paths.runs={runs}"])
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "e-s0: IsADirectoryError" in printed and "exit code 1" in printed
    assert str(broken.with_name("console.log")) in printed
    assert "Not finished at seed 0: e" in printed and (broken.parents[1] / "grpo-s0" / "summary.json").exists()
