"""A run that is killed and resumed twice is one run to W&B and to TensorBoard, with each step once."""

import signal
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ktr.record.wandb_file import records
from tests.small_run import Train

STEPS = 12


def killed_after(start: Train, target: int, run_dir: Path, arguments: list[str]) -> None:
    """Start the run, and kill it once a checkpoint of step ``target`` or a later one is there."""
    running = start(arguments)
    names = (f"step-{step:06}" for step in range(target, STEPS))
    kept = [run_dir / "checkpoints" / name for name in names]
    while not any(folder.is_dir() for folder in kept):
        assert running.poll() is None, "it ended before it could be killed"
    running.send_signal(signal.SIGKILL)
    running.wait()


def test_each_step_is_there_once(start_training: Train, small_run: list[str], runs_folder: Path):
    run_dir = runs_folder / "runs" / "twice"
    arguments = [*small_run, "name=twice", "logger=[wandb,tensorboard]", "logger.wandb.offline=true", "probe=none"]
    arguments += [f"trainer.max_steps={STEPS}", "callbacks.model_checkpoint.every_n_steps=2"]
    for target in (2, 6):
        killed_after(start_training, target, run_dir, arguments)
    last = start_training(arguments)
    assert last.wait() == 0
    parts = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert len(parts) == 3 and len({part.stem for part in parts}) == 1
    rows = [record.history for part in parts for _, record in records(part.read_bytes()) if record.HasField("history")]
    losses = [row.step.num for row in rows if any("loss/total" in (item.key, *item.nested_key) for item in row.item)]
    assert losses == [*range(1, STEPS + 1)] and len({row.step.num for row in rows}) == len(rows)
    curve = EventAccumulator(str(run_dir / "tensorboard")).Reload().Scalars("loss/total")
    assert [point.step for point in curve] == losses
