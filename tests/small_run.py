"""Fixtures for runs of the real entry point, on a random policy and a handful of videos."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_policy import save_random_policy

    folder = tmp_path_factory.mktemp("runs")
    save_random_policy(folder / "policy")
    return folder


@pytest.fixture(scope="session")
def small_run(runs_folder: Path) -> list[str]:
    """Overrides that make the embedded run small: short answers that a random policy is paid for."""
    return [
        f"model.path={runs_folder / 'policy'}",
        f"paths.runs={runs_folder / 'runs'}",
        f"paths.cache={runs_folder / 'cache'}",
        "data.train.num_questions=24",
        "data.validation.num_questions=8",
        "data.questions_per_step=4",
        "sampling.num_completions=4",
        "sampling.max_tokens=12",
        "probe=none",
        "reward.rewards.format={_target_: tests.even_tokens.ShareOfEvenTokens}",
    ]


@pytest.fixture(scope="session")
def start_training(small_run: list[str]) -> Train:
    """Starts ``python -m ktr.train`` in a process of its own."""

    def start(overrides: Sequence[str], data: bool = True) -> subprocess.Popen[str]:
        """``data=False``: without the overrides of the embedded world's data, for a run on other data."""
        small = [override for override in small_run if data or not override.startswith("data.")]
        return subprocess.Popen(
            [sys.executable, "-m", "ktr.train", *small, *overrides],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finished(process: subprocess.Popen[str]) -> str:
    """What a process printed; fails the test where it did not end well."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output
