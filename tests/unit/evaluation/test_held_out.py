"""Accuracy of a policy on questions of a user's own, some of whose files cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from ktr.config.composing import compose
from ktr.errors import MissingData
from ktr.evaluation.run import run_evaluation
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from tests.tiny_policy import save_random_policy

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    """Answers the question about each of some files: ``red.png`` is a picture, ``text.png`` is none."""
    save_random_policy(tmp_path / "policy")
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    (tmp_path / "text.png").write_text("no picture")

    def run(*files: str) -> dict[str, Any]:
        row = {"problem": "what is first ?", "problem_type": "free-form", "solution": "red", "data_type": "image"}
        (tmp_path / "rows.json").write_text(json.dumps([row | {"path": name} for name in files]))
        overrides = ["data=own", f"data.validation.rows={tmp_path}/rows.json", "sampling.max_tokens=4"]
        config = compose("evaluate", [f"model.path={tmp_path}/policy", f"paths.runs={tmp_path}/runs", *overrides])
        OmegaConf.resolve(config)
        return json.loads(run_evaluation(config).read_text())

    return run


def test_a_batch_of_which_nothing_can_be_read_is_skips_and_the_tower_keeps_nothing_for_a_gradient(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
):
    with_gradient = []
    run_tower = QwenVLPolicy.run_tower

    def watched(policy: QwenVLPolicy, *inputs) -> torch.Tensor:
        features_MF = run_tower(policy, *inputs)
        with_gradient.append(features_MF.requires_grad)
        return features_MF

    monkeypatch.setattr(QwenVLPolicy, "run_tower", watched)
    summary = evaluate("red.png", "text.png", "red.png")
    assert [of_answers["n"] for of_answers in summary["accuracy"].values()] == [2, 2]
    assert summary["skips"] == {"CorruptMedia": 1} and with_gradient == [False, False]


def test_an_evaluation_of_nothing_is_no_result(evaluate: Evaluate):
    with pytest.raises(MissingData, match=r"none of the held-out questions can be asked: skips\.jsonl"):
        evaluate("text.png")
