"""Laws of generating the next batch while the trainer learns from this one."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer

from ktr.algorithm.importance import ImportanceCorrection, TokenTruncation
from ktr.attribution.views import Factual
from ktr.data.loaders import StreamPosition, TrainLoader
from ktr.data.order import QuestionOrder
from ktr.data.skips import SkipLog
from ktr.errors import ConfigError, EngineError
from ktr.policy.qwen_vl import QwenVLPolicy
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers_engine import TransformersEngine
from ktr.training.policy_module import PolicyModule
from ktr.training.rl_module import VideoRLModule
from ktr.training.rollouts_ahead import Rollouts, RolloutsAhead
from ktr.types import PromptInputs, RolloutGroup
from tests.tiny_policy import random_group, random_prompt
from tests.unit.training.conftest import MakeModule, key_tokens


class NeighbourEngine(TransformersEngine):
    """Samples from a policy of its own, which only a push changes, and remembers what it was asked.

    ``offset`` is added to the log-probs that it reports; ``noise`` to the language model's weights at each push.
    """

    def __init__(self, folder: Path, overlap: int = 1, offset: float = 0.0, noise: float = 0.0):
        super().__init__(QwenVLPolicy(folder).eval())
        self.overlap = self.max_staleness = overlap
        self.correction: ImportanceCorrection | None = None
        self.offset, self.noise = offset, noise
        self.pushed: dict[int, dict[str, torch.Tensor]] = {}
        self.threads: list[str] = []
        self.versions: list[int] = []
        self.running = 0
        self.before_answer: Callable[[], Any] = lambda: None  # in the thread of an overlapped generation

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        self.running += 1
        self.threads.append(threading.current_thread().name)
        self.versions.append(self.version)
        try:
            if threading.current_thread() is not threading.main_thread():
                self.before_answer()
            groups = super().generate(prompts, sampling, seeds)
        finally:
            self.running -= 1
        for completion in (c for group in groups for c in group.completions):
            completion.logps_T.add_(self.offset)
        return groups

    def load_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        assert not self.running, "a push while sampling"
        self.pushed[version] = {name: tensor.clone() for name, tensor in named_tensors}
        self.policy.model.load_state_dict(self.pushed[version])
        generator = torch.Generator().manual_seed(version)
        for parameter in self.policy.model.model.language_model.layers.parameters():
            parameter.data += self.noise * torch.randn(parameter.shape, generator=generator)
        self.version = version


class Questions(LightningDataModule):
    """Epochs of random prompts, from a loader that can be looked ahead in."""

    def __init__(self, policy: QwenVLPolicy, num_questions: int, per_step: int):
        super().__init__()
        self.prompts = [random_prompt(policy, i) for i in range(num_questions)]
        self.per_step = per_step
        self.position = StreamPosition()

    def train_dataloader(self) -> TrainLoader:
        questions = [prompt.question for prompt in self.prompts]
        encode = {prompt.question.id: prompt for prompt in self.prompts}
        order = QuestionOrder(len(questions), seed=0)
        return TrainLoader(questions, lambda q: encode[q.id], order, self.per_step, self.position, SkipLog())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


class Record(Callback):
    """What each step returned and logged; a checkpoint after step ``save_at``."""

    def __init__(self, save_at: int = -1, folder: Path | None = None):
        self.save_at, self.folder = save_at, folder
        self.outputs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)
        self.metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})
        if trainer.global_step == self.save_at and self.folder is not None:
            pl_module.policy.save(self.folder)
            trainer.save_checkpoint(self.folder / "trainer.ckpt")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["lr_schedulers"][0]["lr_lambdas"] = [None]  # the tests' type checks wrap it, and can't be pickled

    def versions(self) -> list[set[int]]:
        return [{c.weights_version for e in out["experiences"] for c in e.group.completions} for out in self.outputs]


def fit(
    module: PolicyModule, steps: int, record: Record | None = None, resume: Path | None = None, num_questions: int = 9
) -> Record:
    """Batches of 3 questions, so that an epoch of 9 has 3 steps."""
    record = record or Record()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[record],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Questions(module.policy, num_questions, 3), ckpt_path=resume, weights_only=True)
    return record


@pytest.fixture
def overlapped(make_module: MakeModule, policy_folder: Path) -> Callable[..., tuple[VideoRLModule, NeighbourEngine]]:
    def make(
        overlap: int = 1, offset: float = 0.0, noise: float = 0.0, correction: Any = None, **parts: Any
    ) -> tuple[VideoRLModule, NeighbourEngine]:
        engine = NeighbourEngine(policy_folder, overlap, offset, noise)
        engine.correction = correction
        engine.max_staleness = overlap * parts.get("updates_per_rollout", 1)
        return make_module(engine=engine, **parts), engine

    return make


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


def test_no_thread_stays_after_training(overlapped):
    fit(overlapped()[0], steps=2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rollouts")]


def test_the_engine_answers_while_the_trainer_runs_backward(overlapped, monkeypatch):
    """Generating the next batch waits until the backward pass of this one has begun: one after the other would fail."""
    module, engine = overlapped()
    learning = threading.Event()
    original = module._backward
    monkeypatch.setattr(module, "_backward", lambda *args: (learning.set(), original(*args))[1])

    def wait_for_learning() -> None:
        assert learning.wait(timeout=60)
        learning.clear()

    engine.before_answer = wait_for_learning
    assert fit(module, steps=3).versions() == [{0}, {0}, {1}]


def independent_logps(folder: Path, weights: dict[str, torch.Tensor], module: Any, groups: list[RolloutGroup]):
    policy = QwenVLPolicy(folder).eval()
    policy.model.load_state_dict(weights)
    features = policy.encode_video([group.prompt for group in groups])
    return [s.logps_GT for s in module.scorer.score(policy, groups, features, Factual(), [0] * len(groups))]


@pytest.mark.parametrize("policy_settings", [{}, {"freeze": ["vision", "merger"]}])
def test_old_logps_are_those_of_the_weights_that_sampled(overlapped, policy_folder, policy_settings):
    module, engine = overlapped(lr=1e-2, policy_settings=policy_settings)
    record = fit(module, steps=3)
    moved = 0.0
    for out, versions in zip(record.outputs, record.versions(), strict=True):
        learned = out["learned"]
        groups = [e.group for e in learned.experiences]
        sampled_from = engine.pushed[versions.pop()]
        for i, logps_GT in enumerate(independent_logps(policy_folder, sampled_from, module, groups)):
            torch.testing.assert_close(learned.old_logps[i], logps_GT, atol=2e-5, rtol=0)
            torch.testing.assert_close(learned.old_logps[i], groups[i].engine_logps_GT, atol=1e-4, rtol=0)
            moved = max(moved, (learned.factual[i].logps_GT - logps_GT).abs().max().item())
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
        for x, y in zip(a["experiences"], b["experiences"], strict=True):
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
    learned = record.outputs[1]["learned"]
    groups = [e.group for e in learned.experiences]
    for i, logps_GT in enumerate(independent_logps(policy_folder, engine.pushed[0], module, groups)):
        torch.testing.assert_close(learned.old_logps[i], logps_GT, atol=2e-5, rtol=0)


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
    groups = [e.group for e in record.outputs[1]["learned"].experiences]
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


# --- faults and bounds ---


def test_a_lost_push_is_noticed_at_the_bound(overlapped, monkeypatch):
    module, engine = overlapped(0)
    monkeypatch.setattr(engine, "load_weights", lambda named_tensors, version: None)
    with pytest.raises(EngineError, match=r"NeighbourEngine: .* 1 updates old .*max_staleness=0.*missed a weight push"):
        fit(module, steps=2)
    assert module.global_step == 1


@pytest.mark.parametrize(("bound", "updates"), [(0, 1), (1, 2)])
def test_a_bound_below_what_overlap_needs_is_refused_before_the_run(make_module, policy_folder, bound, updates):
    engine = NeighbourEngine(policy_folder)
    engine.max_staleness = bound
    with pytest.raises(ConfigError, match=f"max_staleness={bound}: .*overlap=1 .*{updates} updates old"):
        make_module(engine=engine, updates_per_rollout=updates)


def test_an_engines_error_surfaces_unchanged_before_the_weights_move(overlapped):
    module, engine = overlapped()
    before = {name: weight.clone() for name, weight in module.policy.named_weights()}
    error = EngineError("NeighbourEngine", "died", "resume the run")

    def die() -> None:
        raise error

    engine.before_answer = die
    with pytest.raises(EngineError) as raised:
        fit(module, steps=2)
    assert raised.value is error
    assert all(torch.equal(weight, before[name]) for name, weight in module.policy.named_weights())


def test_an_error_of_the_trainer_waits_for_the_engine_and_is_the_one_that_is_raised(overlapped, monkeypatch):
    module, engine = overlapped()
    failing = threading.Event()

    def fail(*args: Any) -> None:
        failing.set()
        raise ZeroDivisionError

    monkeypatch.setattr(module, "_backward", fail)
    engine.before_answer = lambda: failing.wait(timeout=60)
    with pytest.raises(ZeroDivisionError):
        fit(module, steps=2)
    assert engine.running == 0 and len(engine.versions) == 2


# --- resume ---


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_resumed_with_rollouts_in_flight_goes_on_to_the_bit(overlapped, tmp_path, stop):
    """Stopped with a batch in flight (1, 2, 4) and at the end of an epoch, with none (3)."""
    parts = {"weighting": key_tokens(), "correction": TokenTruncation(), "noise": 0.01}
    whole, _ = overlapped(**parts)
    record = fit(whole, 5, Record(stop, tmp_path / "step"))
    saved = torch.load(tmp_path / "step" / "trainer.ckpt", weights_only=True)["rollouts_ahead"]
    assert len(saved) == (0 if stop == 3 else 3)

    resumed, engine = overlapped(**parts)
    resumed.policy.load_trained(tmp_path / "step")
    again = fit(resumed, 5, resume=tmp_path / "step" / "trainer.ckpt")
    assert again.versions() == record.versions()[stop:]
    assert len(engine.versions) == 5 - stop - (stop != 3), "what was in flight is not generated again"
    assert again.metrics == record.metrics[stop:]
    for (name, x), (_, y) in zip(whole.policy.named_weights(), resumed.policy.named_weights(), strict=True):
        assert torch.equal(x, y), name


def test_rollouts_of_other_questions_are_refused(policy):
    groups = [random_group(policy, i, [3, 5]) for i in range(2)]
    ahead = RolloutsAhead(TransformersEngine(policy), SamplingParams(2, 5))
    ahead.keep(Rollouts(groups))
    state = ahead.state_dict()
    for fill in (lambda: ahead.keep(Rollouts(groups)), lambda: ahead.load_state_dict(state)):
        fill()
        with pytest.raises(ConfigError, match="q0, q1, and the next batch has q1, q0"):
            ahead.take([group.prompt for group in reversed(groups)])


def test_saved_rollouts_come_back_as_they_were(policy):
    groups = [random_group(policy, i, [3, 5]) for i in range(3)]
    prompts = [group.prompt for group in groups]
    ahead = RolloutsAhead(TransformersEngine(policy), SamplingParams(2, 5))
    ahead.keep(Rollouts(groups, None, {0: torch.rand(2, 5), 2: torch.rand(2, 5)}))
    state = ahead.state_dict()
    kept = ahead.take(prompts)
    assert kept is not None and ahead.take(prompts) is None and ahead.state_dict() == []
    ahead.load_state_dict(state)
    assert ahead.state_dict() == state, "not yet taken, it is saved again"
    restored = ahead.take(prompts)
    assert restored is not None and restored.old_logps.keys() == {0, 2}
    assert all(torch.equal(restored.old_logps[i], kept.old_logps[i]) for i in (0, 2))
    for a, b in zip(restored.groups, kept.groups, strict=True):
        assert a.prompt is b.prompt and torch.equal(a.completion_ids_GT, b.completion_ids_GT)
        assert torch.equal(a.engine_logps_GT, b.engine_logps_GT)
        assert [(c.text, c.finish_reason, c.weights_version) for c in a.completions] == [
            (c.text, c.finish_reason, c.weights_version) for c in b.completions
        ]
