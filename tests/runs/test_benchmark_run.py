"""A benchmark that is killed again and again is asked once: the same lines as one that never was."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "ktr.evaluate", "benchmark=shapes"]
NUM_ITEMS = 450
pytestmark = pytest.mark.xdist_group("benchmark")


def start(runs_folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, f"paths.runs={runs_folder / 'runs'}", f"data.validation.num_questions={NUM_ITEMS}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def without_times(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines(path)]


def test_a_run_killed_five_times_has_the_lines_of_an_uncut_one(runs_folder: Path):
    uncut = start(runs_folder, "name=uncut")
    output, error = uncut.communicate()
    assert uncut.returncode == 0, error
    whole = runs_folder / "runs" / "uncut"
    assert output.splitlines()[-2:] == [str(whole / "wrong.html"), str(whole / "results.json")]
    assert (whole / "wrong.html").read_text().count("data:image/webp") > 0
    path = runs_folder / "runs" / "killed" / "items.jsonl"
    for target in (1, 40, 130, 290, 420):
        running = start(runs_folder, "name=killed", "batch_size=13")
        kept = lines(path)
        while len(lines(path)) < target:
            assert running.poll() is None, running.communicate()[1]
        if target == 130:  # a second process in the same folder, while this one holds it
            running.send_signal(signal.SIGSTOP)
            refused = start(runs_folder, "name=killed")
            told = refused.communicate()[1]
            assert refused.returncode != 0 and "is being written by process" in told, told
        running.send_signal(signal.SIGKILL)
        running.communicate()
        there = kept[: max(len(kept) - 1, 0)]  # the last may be torn
        assert lines(path)[: len(there)] == there, "a line that was there was written again"
    last = start(runs_folder, "name=killed")
    assert last.wait() == 0
    assert without_times(path) == without_times(whole / "items.jsonl")
    assert len({json.loads(line)["id"] for line in lines(path)}) == len(lines(path)) == NUM_ITEMS
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (whole, path.parent))
    assert first["summary"] == second["summary"] and first["identity"] == second["identity"]


def test_a_whole_run_is_told_again_without_a_model_and_another_identity_is_refused(runs_folder: Path):
    few = ["benchmark.limit=6", "name=few"]
    assert start(runs_folder, *few).wait() == 0
    path = runs_folder / "runs" / "few" / "items.jsonl"
    before = path.stat().st_mtime_ns, path.read_text()
    again = start(runs_folder, *few, "model.dtype=float32")
    output, error = again.communicate()
    assert again.returncode == 0 and "accuracy" in output and "evaluate 6/6" not in error, error
    assert path.read_text() == before[1]
    other = start(runs_folder, *few, "rule=lenient", "video.sampling=time")
    error = other.communicate()[1]
    assert other.returncode == 2 and "rule: " in error and 'video.sampling: "index" and "time"' in error
    assert "Traceback" not in error and path.read_text() == before[1]
