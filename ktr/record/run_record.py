"""What a run was: config.yaml and record.json at its start, summary.json at its end. Needs no Lightning.

The run folder is the only input of a report, so that a folder copied elsewhere tells the whole story.
"""

import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ktr.config.settings import override_without_secrets, value_without_secrets
from ktr.record.json_file import read_object, write_object, write_whole
from ktr.record.step_table import drop_rows_after

PACKAGES = (
    "torch", "torchvision", "transformers", "tokenizers", "lightning", "hydra-core", "omegaconf", "peft", "numpy",
    "av", "decord", "safetensors", "vllm", "flash-attn", "wandb", "tensorboard",
)  # fmt: skip
STEP_TABLES = ("metrics.csv", "timings.csv")
OUTCOMES = (
    *STEP_TABLES, "start.json", "rollouts.jsonl", "attribution.jsonl", "skips.jsonl", "summary.json", "report.html",
    "words.html", "words.json",
)  # fmt: skip


def start_run(
    run_dir: Path,
    config: DictConfig,
    seed: int,
    ranks: int = 1,
    resumed_at: int | None = None,
    changed: Mapping[str, tuple[Any, Any]] | None = None,
) -> dict[str, Any]:
    """Write config.yaml and record.json before any work; return the record.

    A fresh run removes what an earlier run left under the same name (``OUTCOMES``, figures, curves), so that no row of
    it can pass for its own, and gets an ``id``. A run that is resumed after the step ``resumed_at`` keeps what it had
    by then. It appends its record to ``resumed`` in the first one, with that ``step`` and what ``changed`` there: old
    and new value by key.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    record = collect_record(seed) | {"ranks": ranks}
    path, new_id = run_dir / "record.json", {"id": secrets.token_hex(4)}
    if resumed_at is not None:
        for name in STEP_TABLES:
            drop_rows_after(run_dir / name, resumed_at)
        first = read_object(path) or {}
        earlier = first.get("resumed", [])
        was = [first, *earlier][-1].get("ranks", ranks)
        changes = {key: [value_without_secrets(key, value) for value in pair] for key, pair in (changed or {}).items()}
        changes |= {"ranks": [was, ranks]} if was != ranks else {}
        record = new_id | (first or record) | {"resumed": [*earlier, record | {"step": resumed_at, "changed": changes}]}
    else:
        for name in OUTCOMES:
            (run_dir / name).unlink(missing_ok=True)
        for figure in (run_dir / "figures").glob("*.png"):
            figure.unlink()
        shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)
        record = new_id | record
    write_whole(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    write_object(path, record)
    return record


def run_id(run_dir: Path) -> str | None:
    """What a run is called elsewhere: the same after a kill, another for a fresh run of the same name."""
    return (read_object(run_dir / "record.json") or {}).get("id")


def collect_record(seed: int, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Versions, machine, git state, seed, command line without secrets and start time, as plain JSON values."""
    import torch  # not above: what only reads records starts without it

    program, *overrides = sys.argv if argv is None else argv
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "argv": [program, *map(override_without_secrets, overrides)],
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "machine": {
            "cpu": _cpu_model(),
            "cpu_count": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda,
        },
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the repository that holds ``folder``; None outside git, or without the git command."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
