"""An in-process vLLM that fails: the batch is generated again, once, or the run stops with the reason."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ktr.errors import EngineError
from ktr.policy.qwen2_5_vl.policy import QwenVLPolicy
from ktr.rollout.vllm.colocate import VLLMColocateEngine
from ktr.types import PromptInputs
from tests.vllm.colocated import SAMPLING, SEEDS, build, random_prompts


@pytest.fixture(scope="module")
def prompts(policy: QwenVLPolicy) -> list[PromptInputs]:
    return random_prompts(policy)


class Fault:
    """Breaks vLLM's step the given number of times."""

    def __init__(self, engine: VLLMColocateEngine, times: int, act: Callable[[Any], Any]):
        self.left, self.act = times, act
        self._start = engine._start
        engine._start = lambda: (self._start(), self.install(engine))  # type: ignore[method-assign]
        self.install(engine)

    def install(self, engine: VLLMColocateEngine) -> None:
        step = engine._engine.step

        def broken() -> Any:
            if self.left == 0:
                return step()
            self.left -= 1
            return self.act(step)

        engine._engine.step = broken


def raises(step: Any) -> Any:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def hangs(step: Any) -> Any:
    threading.Event().wait()


def loses_a_completion(step: Any) -> Any:
    while not (outputs := [output for output in step() if output.finished]):
        pass
    del outputs[0].outputs[-1]
    return outputs


@pytest.mark.parametrize("act", [raises, hangs, loses_a_completion])
def test_a_failed_batch_is_generated_again_on_a_fresh_engine(policy: QwenVLPolicy, prompts: Any, act: Any):
    engine = build(policy, time_limit_s=15.0 if act is hangs else 600.0)
    expected = engine.generate(prompts, SAMPLING, SEEDS)
    Fault(engine, 1, act)
    groups = engine.generate(prompts, SAMPLING, SEEDS)
    assert [g.completion_ids_GT.tolist() for g in groups] == [g.completion_ids_GT.tolist() for g in expected]
    assert len(engine.summary()["incidents"]) == 1
    engine.close()


def test_a_batch_that_fails_twice_stops_the_run(policy: QwenVLPolicy, prompts: Any):
    engine = build(policy)
    engine.generate(prompts, SAMPLING, SEEDS)
    Fault(engine, 2, raises)
    with pytest.raises(EngineError, match="failed twice.*illegal memory access.*start the run again"):
        engine.generate(prompts, SAMPLING, SEEDS)
    engine.close()


def test_what_vllm_refuses_is_refused_with_its_reason(policy: QwenVLPolicy, prompts: Any):
    with pytest.raises(EngineError, match="max_model_len.*is greater than"):
        build(policy, max_model_len=4096).generate(prompts, SAMPLING, SEEDS)
