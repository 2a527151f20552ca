"""By the programs alone: a run of adapters, an export of its checkpoint elsewhere, and an evaluation of that."""

import json
import subprocess
import sys
from pathlib import Path

from tests.small_run import ROOT, Train, finished


def program(name: str, *arguments: str) -> str:
    """What a program printed; fails the test where it did not end well."""
    ended = subprocess.run([sys.executable, "-m", name, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_checkpoint_of_adapters_is_exported_and_asked_as_it_was_trained(
    start_training: Train, runs_folder: Path, tmp_path: Path
):
    given = [
        "name=adapted",
        "trainer.max_steps=2",
        "callbacks.model_checkpoint.every_n_steps=1",
        "video.max_pixels=4000",
    ]
    finished(start_training([*given, "model.lora={r: 2, target_modules: [q_proj, v_proj]}"]))
    run, folder = runs_folder / "runs" / "adapted", tmp_path / "elsewhere"
    assert not (run / "checkpoints" / "step-000001" / "config.json").exists()
    assert program("ktr.export", str(run), "--checkpoint", "1", "--output", str(folder)) == f"{folder}\n"

    where = [f"paths.runs={runs_folder / 'runs'}", f"paths.cache={runs_folder / 'cache'}", "name=asked"]
    asked = ["benchmark=shapes", "benchmark.limit=4", "data.validation.num_questions=8"]
    result = Path(program("ktr.evaluate", f"model.path={folder}", *where, *asked).splitlines()[-1])
    assert json.loads((result.parent / "identity.json").read_text())["video"]["max_pixels"] == 4000
    program("ktr.export", str(run), "--results", str(result.parent), "--dtype", "bfloat16")
    card = (run / "export" / "README.md").read_text()
    assert "| shapes | frames: 16, pixels at most: 4000, rule: strict, seed: 0 |" in card
    assert ", 2 updates. Its weights are bfloat16." in card and "| sampled | " in card
