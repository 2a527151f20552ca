"""Of a run with an overlap: what is refused, whose error is raised, and that it goes on where it was cut off."""

import threading
from typing import Any

import pytest
import torch

from ktr.algorithm.importance import TokenTruncation
from ktr.errors import ConfigError, EngineError
from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.engine import TransformersEngine
from ktr.training.rollouts_ahead import Rollouts, RolloutsAhead
from ktr.types import RolloutGroup
from tests.tiny_policy import random_group
from tests.unit.training.conftest import key_tokens
from tests.unit.training.overlapped_run import NeighbourEngine, Record, fit


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

    monkeypatch.setattr(module.learner, "backward", fail)
    engine.before_answer = lambda: failing.wait(timeout=60)
    with pytest.raises(ZeroDivisionError):
        fit(module, steps=2)
    assert engine.running == 0 and len(engine.versions) == 2


def test_an_interrupted_step_does_not_wait_for_the_engine(policy, monkeypatch):
    end, engine = threading.Event(), TransformersEngine(policy)

    def generate(*asked: Any) -> list[RolloutGroup]:
        assert end.wait(timeout=60)
        return []

    monkeypatch.setattr(engine, "generate", generate)
    ahead = RolloutsAhead(engine, SamplingParams(2, 5))
    with pytest.raises(KeyboardInterrupt), ahead:
        ahead.start([], [])
        raise KeyboardInterrupt
    assert not end.is_set() and ahead._running is not None and not ahead._running.done()
    end.set()
    ahead.close()


@pytest.mark.parametrize("stop", [2, 3])
def test_a_run_resumed_with_rollouts_in_flight_goes_on_to_the_bit(overlapped, tmp_path, stop):
    """Stopped with a batch in flight (2) and at the end of an epoch, with none (3)."""
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
    ahead.keep(Rollouts(groups, None, [None, None]))
    state = ahead.state_dict()
    for fill in (lambda: ahead.keep(Rollouts(groups, None, [None, None])), lambda: ahead.load_state_dict(state)):
        fill()
        with pytest.raises(ConfigError, match="q0, q1, and the next batch has q1, q0"):
            ahead.take([group.prompt for group in reversed(groups)])


def test_saved_rollouts_come_back_as_they_were(policy):
    groups = [random_group(policy, i, [3, 5]) for i in range(3)]
    prompts = [group.prompt for group in groups]
    ahead = RolloutsAhead(TransformersEngine(policy), SamplingParams(2, 5))
    ahead.keep(Rollouts(groups, None, [torch.rand(2, 5), None, torch.rand(2, 5)]))
    state = ahead.state_dict()
    kept = ahead.take(prompts)
    assert kept is not None and ahead.take(prompts) is None and ahead.state_dict() == []
    ahead.load_state_dict(state)
    assert ahead.state_dict() == state, "not yet taken, it is saved again"
    restored = ahead.take(prompts)
    assert restored is not None and restored.old_logps[1] is None
    assert all(torch.equal(restored.old_logps[i], kept.old_logps[i]) for i in (0, 2))
    for a, b in zip(restored.groups, kept.groups, strict=True):
        assert a.prompt is b.prompt and torch.equal(a.completion_ids_GT, b.completion_ids_GT)
        assert torch.equal(a.engine_logps_GT, b.engine_logps_GT)
        assert [(c.text, c.finish_reason, c.weights_version) for c in a.completions] == [
            (c.text, c.finish_reason, c.weights_version) for c in b.completions
        ]
