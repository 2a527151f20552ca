"""All examples of docs/extend.md in one run, from outside of the repository; and one that gives a wrong shape."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ktr.shapes.dataset_folder import write_dataset
from ktr.shapes.example import Mixture
from ktr.shapes.world import WorldSettings
from tests.extend_page import write_examples
from tests.small_run import ROOT

ALL = [
    "--config-dir", "conf", "+attribution/signal=[early,motion]", "+reward/part=brevity", "advantage=ranks",
    "loss=sequence", "weighting=floored", "attribution=vet", "data=mine", "prompt=options_first",
    "callbacks=[default,best_reward]", "paths.data=data", "paths.runs=runs", "name=mine", "trainer.max_steps=2",
    "data.questions_per_step=4", "sampling.num_completions=4", "sampling.max_tokens=12", "probe=none",
    "reward.rewards.format={_target_: tests.even_tokens.ShareOfEvenTokens}",  # a random policy has no other reward
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, runs_folder: Path) -> Path:
    """The files of the page, and rows in its format, one of them without an answer."""
    home = tmp_path_factory.mktemp("home")
    write_examples(home)
    world = write_dataset("extend", 12, 0, home / "world", WorldSettings(), Mixture(multiple_choice=0.3))
    shutil.copytree(world, home / "data" / "mine")
    rows = json.loads((world / "rows.json").read_text())
    asked = [
        {"ask": row["problem"], "kind": row["problem_type"], "truth": row["solution"], "clip": row["path"],
         "choices": row.get("options")} for row in rows
    ]  # fmt: skip
    del asked[3]["truth"]
    for name, part in {"train": asked[:8], "test": asked[8:]}.items():
        (home / "data" / "mine" / f"{name}.json").write_text(json.dumps(part))
    return home


def train(home: Path, policy: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ktr.train", *ALL, f"model.path={policy}", *more]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=240)


def test_all_parts_train_together_and_are_logged(home: Path, runs_folder: Path):
    done = train(home, runs_folder / "policy")
    assert done.returncode == 0, (done.stdout, done.stderr)
    with (home / "runs/mine/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss/total"]]
    assert len(rows) == 2
    names = ("reward/brevity", "attribution/early/score", "attribution/motion/score", "mine/best_reward")
    for name in names:
        assert all(row[name] for row in rows), name
    (skip,) = [json.loads(line) for line in (home / "runs/mine/skips.jsonl").read_text().splitlines()]
    assert (skip["kind"], skip["row"]) == ("FormatFault", 3)
    assert "train.json, row 3: mine.rows.question raised KeyError: 'truth'" in skip["reason"]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("signal", "expand_as(group.factual.logps_GT)", "sum()", "attribution.signals.early: mine.signal.Early must"),
        ("signal", "def scores", "def score", "attribution.signals.early: Can't instantiate abstract class Early"),
        ("rows", "row: Mapping[str, Any]", "row: Mapping[str, Any], index: int", "format=mine.rows.question cannot be"),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_used_ends_before_the_first_step(
    file: str, old: str, new: str, said: str, home: Path, runs_folder: Path, tmp_path: Path
):
    shutil.copytree(home, tmp_path / "home")
    code = tmp_path / "home" / "mine" / f"{file}.py"
    code.write_text(code.read_text().replace(old, new))
    done = train(tmp_path / "home", runs_folder / "policy", "name=broken")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ktr.train: ConfigError: ") and said in last
    assert not (tmp_path / "home/runs/broken/metrics.csv").exists()
