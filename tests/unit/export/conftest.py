"""Runs that have ended: of all weights, and of adapters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.policy.families import load_policy
from ktr.policy.family import Policy

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
GIVEN = ["prompt.instruction='so ?'", "video.max_pixels=6272", "video.min_pixels=1568", "sampling.temperature=0.7"]
STEPS = (2, 4)


@torch.no_grad()
def move(policy: Policy) -> None:
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))


def ended_run(folder: Path, policy: Policy, *overrides: str) -> Policy:
    """A run that trained ``policy`` for four updates, with a checkpoint each two; its policy at the end."""
    config: Any = compose("train", [f"model.path={policy.path}", *GIVEN, *overrides])
    config.paths.folder, config.paths.runs = folder.name, str(folder.parent)
    folder.mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    for step in STEPS:
        move(policy)
        policy.save(folder / "checkpoints" / f"step-{step:06}")
    policy.save(folder / "policy", merge_adapters=True)
    figures = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "n": 80}
    before, after = {"greedy": figures | {"accuracy": 0.25}}, {"greedy": figures}
    (folder / "start.json").write_text(json.dumps(before))
    summary = {"num_updates": 4, "training_wall_seconds": 61.2, "accuracy_before": before, "accuracy_after": after}
    (folder / "summary.json").write_text(json.dumps(summary))
    record = {
        "git": {"commit": "a" * 40, "dirty": False}, "python": "3.11.9", "packages": {"torch": "2.13.0", "av": "14"},
        "machine": {"cpu": "Some CPU", "cpu_count": 4, "gpus": ["H100", "H100"]}, "started": "2026-11-26T10:00:00",
    }  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "metrics.csv").write_text("step,val/greedy/accuracy\n0,0.25\n2,0.75\n4,0.5\n")
    return policy.eval()


def without_policy(run: Path, folder: Path, steps: Sequence[int] = STEPS) -> Path:
    """The same run, cut off: its checkpoints alone."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").symlink_to(run / "config.yaml")
    (folder / "record.json").symlink_to(run / "record.json")
    for step in steps:
        name = f"step-{step:06}"
        (folder / "checkpoints" / name).symlink_to(run / "checkpoints" / name)
    return folder


@pytest.fixture(scope="session")
def whole(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Policy]:
    """The folder of a run that trained all weights, and its policy at the end."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, ended_run(folder, load_policy(policy_folder))


@pytest.fixture(scope="session")
def adapted(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Policy]:
    """The folder of a run that trained adapters, and its policy at the end."""
    folder = tmp_path_factory.mktemp("runs") / "adapted"
    lora = "model.lora={r: 4, lora_alpha: 8, target_modules: [q_proj, v_proj, down_proj]}"
    return folder, ended_run(folder, load_policy(policy_folder, lora=LORA), lora, "algorithm=video_ktr")


@pytest.fixture
def run(adapted: tuple[Path, Policy]) -> Path:
    return adapted[0]
