"""Laws of generating the next batch while the trainer learns from this one."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ktr.algorithm.importance import TokenTruncation
from ktr.attribution.views import Factual
from ktr.rewards.composite import CompositeReward
from ktr.training.rl_module import VideoRLModule
from ktr.types import RolloutGroup
from tests.tiny_policy import fresh_policy
from tests.unit.training.conftest import key_tokens
from tests.unit.training.overlapped_run import fit


def gradients(module: VideoRLModule) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in module.policy.parameters() if p.grad is not None])


def test_groups_are_one_update_old_but_for_the_first_of_each_epoch(overlapped):
    module, engine = overlapped()
    record = fit(module, steps=5)
    assert record.versions() == [{0}, {0}, {1}, {3}, {3}]
    assert [m["rollout/staleness/mean"] for m in record.metrics] == [0, 1, 1, 0, 1]
    assert [m["rollout/staleness/max"] for m in record.metrics] == [0, 1, 1, 0, 1]
    assert [name.split("-")[0].split("_")[0] for name in engine.threads] == [
        "MainThread", "rollouts", "rollouts", "MainThread", "rollouts",
    ]  # fmt: skip


def test_nothing_is_generated_that_no_step_will_use(overlapped):
    module, engine = overlapped()
    fit(module, steps=2)
    assert engine.versions == [0, 0]


class Asked:
    """A judge that never says the same twice, and remembers what it was asked about."""

    name = "asked"

    def __init__(self) -> None:
        self.groups: list[RolloutGroup] = []

    def __call__(self, group: RolloutGroup) -> torch.Tensor:
        return self.score_groups([group])[0]

    def score_groups(self, groups: Sequence[RolloutGroup]) -> list[torch.Tensor]:
        self.groups += groups
        return [torch.arange(len(group.completions)) + float(len(self.groups)) for group in groups]


def test_a_judge_is_asked_once_about_a_group(overlapped):
    judge = Asked()
    module, _ = overlapped(reward=CompositeReward({"asked": judge}))
    fit(module, steps=3)
    assert len(judge.groups) == len({id(group) for group in judge.groups}) == 9


def test_no_thread_stays_after_training(overlapped):
    fit(overlapped()[0], steps=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rollouts")]


def test_the_engine_answers_while_the_trainer_runs_backward(overlapped, monkeypatch):
    """Generating the next batch waits until the backward pass of this one has begun: one after the other would fail."""
    module, engine = overlapped()
    learning = threading.Event()
    original = module.learner.backward
    monkeypatch.setattr(module.learner, "backward", lambda *args: (learning.set(), original(*args))[1])

    def wait_for_learning() -> None:
        assert learning.wait(timeout=60)
        learning.clear()

    engine.before_answer = wait_for_learning
    assert fit(module, steps=3).versions() == [{0}, {0}, {1}]


def independent_logps(folder: Path, weights: dict[str, torch.Tensor], module: Any, groups: list[RolloutGroup]):
    policy = fresh_policy(folder).eval()
    policy.model.load_state_dict(weights)
    features = policy.encode_video([group.prompt for group in groups])
    return [s.logps_GT for s in module.scorer.score(policy, groups, features, Factual(), [0] * len(groups))]


@pytest.mark.parametrize("policy_settings", [{}, {"freeze": ["vision", "merger"]}])
def test_old_logps_are_those_of_the_weights_that_sampled(overlapped, policy_folder, policy_settings):
    module, engine = overlapped(lr=1e-2, policy_settings=policy_settings)
    record = fit(module, steps=3)
    moved = 0.0
    for out, versions in zip(record.outputs, record.versions(), strict=True):
        to_learn = out["output"].to_learn
        groups = [scored.experience.group for scored in to_learn]
        sampled_from = engine.pushed[versions.pop()]
        logps = independent_logps(policy_folder, sampled_from, module, groups)
        for scored, group, logps_GT in zip(to_learn, groups, logps, strict=True):
            torch.testing.assert_close(scored.first.old_logps_GT, logps_GT, atol=2e-5, rtol=0)
            torch.testing.assert_close(scored.first.old_logps_GT, group.engine_logps_GT, atol=1e-4, rtol=0)
            moved = max(moved, (scored.first.factual.logps_GT - logps_GT).abs().max().item())
    assert moved > 0.05, "the policy that learned is another"


def test_the_clip_acts_on_groups_of_older_weights(overlapped):
    record = fit(overlapped(lr=1e-1)[0], steps=3)
    assert record.metrics[0]["loss/clip_fraction"] == 0 and record.metrics[0]["loss/ratio_mean"] == pytest.approx(1)
    assert record.metrics[1]["loss/clip_fraction"] > 0 and record.metrics[1]["loss/ratio_mean"] != pytest.approx(1)


@pytest.mark.parametrize("weighting", [None, key_tokens()])
def test_where_the_weights_stand_still_overlap_changes_no_gradient(overlapped, weighting):
    (ahead, _), (plain, _) = overlapped(1, lr=0.0, weighting=weighting), overlapped(0, lr=0.0, weighting=weighting)
    records = [fit(module, steps=3) for module in (ahead, plain)]
    for a, b in zip(*(record.outputs for record in records), strict=True):
        for x, y in zip(a["output"].experiences, b["output"].experiences, strict=True):
            assert torch.equal(x.group.completion_ids_GT, y.group.completion_ids_GT)
        torch.testing.assert_close(a["loss"], b["loss"], atol=1e-6, rtol=0)
    assert gradients(plain).any()
    torch.testing.assert_close(gradients(ahead), gradients(plain), atol=1e-6, rtol=1e-4)
    assert records[0].metrics[1]["loss/ratio_mean"] == pytest.approx(1, abs=1e-6)


def test_an_engine_beside_the_trainer_without_overlap_is_the_trainers_own_to_the_bit(overlapped, make_module):
    beside, within = overlapped(0)[0], make_module()
    fit(beside, steps=3), fit(within, steps=3)
    for (name, x), (_, y) in zip(beside.policy.named_weights(), within.policy.named_weights(), strict=True):
        assert torch.equal(x, y), name


def test_several_updates_of_a_batch_keep_the_old_logps_of_the_weights_that_sampled(overlapped, policy_folder):
    module, engine = overlapped(updates_per_rollout=2, lr=1e-2)
    record = fit(module, steps=4)
    assert record.versions() == [{0}, {0}] and len(engine.versions) == 2
    assert record.metrics[1]["rollout/staleness/max"] == 2
    to_learn = record.outputs[1]["output"].to_learn
    groups = [scored.experience.group for scored in to_learn]
    logps = independent_logps(policy_folder, engine.pushed[0], module, groups)
    for scored, logps_GT in zip(to_learn, logps, strict=True):
        torch.testing.assert_close(scored.first.old_logps_GT, logps_GT, atol=2e-5, rtol=0)


# --- mismatch and correction ---


def test_the_metrics_read_a_known_offset_of_the_engines_logps(overlapped):
    module, _ = overlapped(offset=0.1, correction=TokenTruncation(2.0))
    for metrics in fit(module, steps=2).metrics:
        assert metrics["rollout/mismatch/mean"] == pytest.approx(0.1, abs=1e-5)
        assert metrics["rollout/mismatch/max"] == pytest.approx(0.1, abs=1e-4)
        assert metrics["rollout/mismatch/kl"] == pytest.approx(math.exp(-0.1) - 1 + 0.1, abs=1e-5)
        assert metrics["rollout/importance_mean"] == pytest.approx(math.exp(-0.1), abs=1e-5)


def test_the_metrics_read_perturbed_weights_as_scoring_the_trainers_own_does(overlapped, policy_folder):
    module, engine = overlapped(noise=0.03)
    record = fit(module, steps=2)
    assert "rollout/importance_mean" not in record.metrics[1], "nothing is corrected"
    groups = [scored.experience.group for scored in record.outputs[1]["output"].to_learn]
    logps = independent_logps(policy_folder, engine.pushed[0], module, groups)
    gaps = torch.cat([(x - g.engine_logps_GT)[g.completion_mask_GT] for x, g in zip(logps, groups, strict=True)])
    assert record.metrics[1]["rollout/mismatch/mean"] == pytest.approx(gaps.abs().mean().item(), abs=1e-4)
    assert record.metrics[1]["rollout/mismatch/kl"] == pytest.approx((gaps.exp() - 1 - gaps).mean().item(), rel=1e-2)
    assert gaps.abs().mean() > 0.01


def test_the_policys_own_engine_has_no_mismatch_and_no_staleness(make_module):
    for metrics in fit(make_module(), steps=2).metrics:
        assert metrics["rollout/mismatch/mean"] < 1e-5 and metrics["rollout/mismatch/kl"] < 1e-9
        assert metrics["rollout/mismatch/max"] < 1e-4
        assert metrics["rollout/staleness/mean"] == metrics["rollout/staleness/max"] == 0


def test_a_correction_reaches_the_gradient(overlapped):
    """Every weight is exp(−0.1), and so is what becomes of the gradient."""
    plain, corrected = (
        fit(overlapped(offset=0.1, correction=correction)[0], steps=1).metrics[0]["grad/norm"]
        for correction in (None, TokenTruncation())
    )
    assert corrected / plain == pytest.approx(math.exp(-0.1), rel=1e-4)
