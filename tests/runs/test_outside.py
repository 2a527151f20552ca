"""A package of a user's own, with its config files, from outside: trained, logged, measured, shown."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_run import ROOT

SMALL = [
    "trainer.max_steps=2", "data.train.num_questions=24", "data.validation.num_questions=8",
    "data.questions_per_step=4", "sampling.num_completions=4", "probe.num_questions=4", "probe.num_completions=2",
    "probe.num_shuffles=1", "callbacks.gradient_alignment.every_n_steps=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the user's that ran where their package is."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "tests" / "outside", folder, dirs_exist_ok=True)
    command = [
        "--config-dir", "conf", "+experiment=table/mine", "table.seeds=[0]", *SMALL, "paths.runs=runs",
        f"paths.cache={folder / 'cache'}", "hydra.launcher.n_jobs=1",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "ktr.train", *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    consoles = [path.read_text() for path in folder.rglob("console.log")]
    assert done.returncode == 0, (done.stdout, done.stderr, *consoles)
    return folder


def test_signal_and_reward_are_logged_at_every_step(home: Path):
    with (home / "runs/table/mine/mine-s0/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["reward/mine"]]
    assert len(rows) == 2
    for name in ("attribution/mine/score", "attribution/mine/selected_fraction", "grad/norm/mine", "loss/total"):
        assert all(row[name] for row in rows), name


def test_the_probe_measures_the_signal_against_the_truth(home: Path):
    summary = json.loads((home / "runs/table/mine/mine-s0/summary.json").read_text())
    assert 0 <= summary["attribution"]["mine_auroc"] <= 1 and "mine" in summary["attribution"]["selected_fraction"]
    other = json.loads((home / "runs/table/mine/vet-s0/summary.json").read_text())
    assert "mine_auroc" not in other["attribution"]


def test_report_and_table_show_it(home: Path):
    report = (home / "runs/table/mine/mine-s0/report.html").read_text()
    assert "mine selects it" in report
    table = (home / "runs/table/mine/table.md").read_text()
    assert "| mine" in table and "not comparable" not in table


def test_the_package_is_short_and_imports_nothing_private(home: Path):
    code = (ROOT / "tests" / "outside" / "mine" / "parts.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    imported = [line for line in code.splitlines() if line.startswith(("from", "import"))]
    assert not any("._" in line or "import _" in line for line in imported)
