"""What a rollout engine is, to the trainer: prompts in, groups out, weights pushed with a version."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

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
    """Token ids, log-probs and the weights' version cross this boundary; no engine's own objects do."""

    def generate(
        self, prompts: Sequence[PromptInputs], sampling: SamplingParams, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        """One group for each prompt, in order. A prompt and its seed fix its completions, whatever the batch."""
        ...

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Make ``version`` of the policy's weights the ones that are sampled from."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...
