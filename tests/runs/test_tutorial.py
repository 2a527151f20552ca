"""The tutorial's commands, as they stand on its page, in an empty folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ktr.record.step_table import read_columns

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(python|yaml|bash)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.xdist_group("tutorial")  # what it prepares takes minutes: once is enough


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it was done, from top to bottom."""
    home = tmp_path_factory.mktemp("tutorial")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "KTR_RUNS": "runs"}
    for language, text in BLOCKS:
        if language == "bash":
            done = subprocess.run(["bash", "-e", "-c", text], cwd=home, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        else:
            (named,) = re.findall(r"^# (\S+\.(?:py|yaml))$", text, re.MULTILINE)
            (home / named).parent.mkdir(parents=True, exist_ok=True)
            (home / named).write_text(text)
    return home


def test_the_policy_learns_from_the_clips(home: Path):
    summary = json.loads((home / "runs/first/summary.json").read_text())
    before, after = (summary[f"accuracy_{when}"]["sampled"]["accuracy"] for when in ("before", "after"))
    assert summary["num_updates"] == 40 and after > before + 0.3
    held_out = json.loads((home / "runs/first_held_out/summary.json").read_text())
    assert held_out["accuracy"]["greedy"]["n"] == 40


def test_pages_are_written(home: Path):
    assert {page.parent.name for page in home.glob("runs/*/report.html")} >= {"first", "grpo", "short", "surprise"}
    assert (home / "compare.html").is_file() and (home / "runs/surprise/words.html").is_file()
    page = json.loads((home / "runs/why/page.json").read_text())
    answers = [completion["text"] for completion in page["cases"][0]["columns"][0]["completions"]]
    assert sum("<answer> red </answer>" in answer for answer in answers) > len(answers) / 2  # asked as it was trained


def test_own_parts_are_logged_and_the_signal_is_measured_against_the_truth(home: Path):
    assert len(read_columns(home / "runs/short/metrics.csv")["reward/short"][1]) == 40
    assert "attribution/surprise/selected_fraction" in read_columns(home / "runs/surprise/metrics.csv")
    summary = json.loads((home / "runs/surprise_shapes/summary.json").read_text())
    assert 0 < summary["attribution"]["surprise_auroc"] < 1
