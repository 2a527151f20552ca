"""Accuracy of a policy on questions of a user's own, some of whose files cannot be read."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from ktr.config.composing import compose
from ktr.evaluation.run import run_evaluation
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from tests.tiny_policy import save_random_policy


def test_a_batch_of_which_nothing_can_be_read_is_skips_and_the_tower_keeps_nothing_for_a_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_random_policy(tmp_path / "policy")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    (tmp_path / "text.png").write_text("no picture")
    row = {"problem": "what is first ?", "problem_type": "free-form", "solution": "red", "data_type": "image"}
    files = ["red.png", "text.png", "red.png"]
    (tmp_path / "rows.json").write_text(json.dumps([row | {"path": name} for name in files]))
    with_gradient = []
    run_tower = QwenVLPolicy.run_tower

    def watched(policy: QwenVLPolicy, *inputs) -> torch.Tensor:
        features_MF = run_tower(policy, *inputs)
        with_gradient.append(features_MF.requires_grad)
        return features_MF

    monkeypatch.setattr(QwenVLPolicy, "run_tower", watched)
    overrides = ["data=own", f"data.validation.rows={tmp_path}/rows.json", "sampling.max_tokens=4"]
    config = compose("evaluate", [f"model.path={tmp_path}/policy", f"paths.runs={tmp_path}/runs", *overrides])
    OmegaConf.resolve(config)
    summary = json.loads(run_evaluation(config).read_text())
    assert [of_answers["n"] for of_answers in summary["accuracy"].values()] == [2, 2]
    assert summary["skips"] == {"CorruptMedia": 1} and with_gradient == [False, False]
