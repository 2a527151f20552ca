"""What a rollout engine is, to the trainer: prompts in, groups out, weights pushed with a version."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ktr.algorithm.importance import ImportanceCorrection
from ktr.policy.family import Policy
from ktr.types import PromptInputs, RolloutGroup


@dataclass(frozen=True)
class SamplingParams:
    """How completions are sampled. ``temperature=0`` is greedy; ``top_p`` keeps the smallest set of words above it."""

    num_completions: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.num_completions < 1 or self.max_tokens < 1:
            raise ValueError(
                "sampling needs num_completions ≥ 1 and max_tokens ≥ 1, "
                f"got {self.num_completions} and {self.max_tokens}"
            )
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"sampling needs temperature ≥ 0 and 0 < top_p ≤ 1, got {self.temperature} and {self.top_p}"
            )


@runtime_checkable
class RolloutEngine(Protocol):
    """Token ids, log-probs and the weights' version cross this boundary; no engine's own objects do.

    ``overlap`` batches are generated while the trainer updates (0 or 1). A completion may be sampled from weights
    ``max_staleness`` updates old at most. ``correction`` makes up for what the engine's log-probs and the trainer's
    differ by; None where nothing is corrected. ``uses_policy_tower`` tells whether videos are encoded by the trainer's
    own tower, so that its features can be shared.
    """

    uses_policy_tower: bool
    overlap: int
    max_staleness: int
    correction: ImportanceCorrection | None

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group for each prompt, in order. A prompt and its seed fix its completions, whatever the batch."""
        ...

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Make ``version`` of the policy's weights the ones that are sampled from."""
        ...

    def close(self) -> None:
        """Free what the engine holds. May be called twice."""
        ...

    def summary(self) -> dict[str, Any]:
        """What the engine did, for summary.json: plain values, ``incidents`` among them."""
        ...


@contextmanager
def shared_features(engine: RolloutEngine, policy: Policy, prompts: Sequence[PromptInputs]) -> Iterator[None]:
    """Inside, an engine that uses the policy's tower finds these prompts' videos encoded, once for all of its calls."""
    if not engine.uses_policy_tower:
        yield
        return
    with policy.reusing_features(prompts, policy.encode_video(prompts)):
        yield
