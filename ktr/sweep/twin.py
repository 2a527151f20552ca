"""A row that another table has already: equal settings at one clean commit are one run, so its files are copied."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ktr.config.resumption import plain
from ktr.config.settings import NOT_SETTINGS, settings
from ktr.record.json_file import read_object, write_object
from ktr.record.run_record import git_state

# What a report of the row needs. The policy and its checkpoints stay where they were trained.
_FIXED = ("ktr", "torch", "lightning", "transformers")
_COPIED = ("start.json", "metrics.csv", "timings.csv", "rollouts.jsonl", "skips.jsonl", "attribution.jsonl")


def find_twin(config: DictConfig) -> Path | None:
    """A finished run among all tables below ``paths.runs`` with the settings of ``config``, of this very commit.

    Observers are compared too, for what they measured is copied. None where a part is the user's own, and where the
    code is not in git or has changes that are not committed: settings say nothing about those.
    """
    state, wanted = git_state(Path(__file__).parent), _compared(config)
    if state is None or state["dirty"] or _has_own_parts(wanted):
        return None
    for summary in sorted(Path(config.paths.runs, "table").glob("*/*/summary.json")):
        folder = summary.parent
        if not (folder / "policy").exists() or (read_object(folder / "record.json") or {}).get("git") != state:
            continue
        if _compared(OmegaConf.load(folder / "config.yaml")) == wanted:
            return folder
    return None


def _compared(config: Any) -> dict[str, Any]:
    return settings(plain(config), NOT_SETTINGS - {"callbacks"})


def _has_own_parts(compared: Mapping[str, Any]) -> bool:
    """Whether a part is of a package that neither ktr's commit nor its requirements fix."""
    targets = [value for key, value in compared.items() if key.rpartition(".")[2] == "_target_"]
    return any(target.partition(".")[0] not in _FIXED for target in targets)


def copy_twin(config: DictConfig) -> bool:
    """Give the run's folder the record, metrics and summary of its twin, under its own name; False if it has none.

    record.json names the twin under ``copied_from``. The summary is written last: with it the row is finished.
    """
    run_dir, twin = Path(config.paths.run_dir), find_twin(config)
    if twin is None:
        return False
    for name in _COPIED:
        if (twin / name).exists():
            shutil.copyfile(twin / name, run_dir / name)
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    origin = {"copied_from": os.path.relpath(twin, config.paths.runs)}
    write_object(run_dir / "record.json", (read_object(twin / "record.json") or {}) | origin)
    labels = {"name": config.name, "algorithm": config.labels.algorithm}
    write_object(run_dir / "summary.json", (read_object(twin / "summary.json") or {}) | labels)
    return True
