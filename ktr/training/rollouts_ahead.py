"""Rollouts of the next batch, generated in a thread while the trainer learns from this one's.

    step k   take k's groups ─ start k+1 ─ score, backward k ─ join ─ score k+1's groups under θ_k ─ optimizer ─ push
    thread                     └─ generate k+1 under θ_k ──────┘

Both happen between two pushes, so that one version of the weights samples a batch and gives its old log-probs. One step
later they are one update old. At the end of a step nothing runs: a checkpoint holds all that is in flight.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import ConfigError
from ktr.ranks import gather_over_ranks, share_of_rank
from ktr.rollout.engine import RolloutEngine, SamplingParams
from ktr.rollout.group_sampler import GroupSampler
from ktr.types import Completion, PromptInputs, RolloutGroup

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rollouts:
    """A batch's groups, and what is known about them from before the step that learns from them.

    ``features`` are the tower's, None where they no longer hold. ``old_logps`` are the trainer's log-probs under the
    weights that sampled; None for a group of which those are still the policy's, or from which nothing is learned.
    """

    groups: list[RolloutGroup]
    features: list[Float[Tensor, "_ F"]] | None
    old_logps: list[Float[Tensor, "_ _"] | None]


class RolloutsAhead:
    """At most one batch: being generated (``start``), generated (``join``), or kept for the next step (``keep``).

    As a context around a step it waits for a generation that an error left running. Who interrupts the run waits for
    nothing: the engine is closed next, which ends what it does.
    """

    def __init__(self, engine: RolloutEngine | GroupSampler, sampling: SamplingParams):
        self.engine = engine
        self.sampling = sampling
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[list[RolloutGroup]] | None = None
        self._kept: Rollouts | None = None
        self._restored: list[dict[str, Any]] = []  # of all ranks, in the order of the global batch

    def start(self, prompts: Sequence[PromptInputs], seeds: Sequence[int]) -> None:
        """Have the engine answer ``prompts`` in a thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollouts")
        device = torch.cuda.current_device() if torch.cuda.is_available() else None

        def generate() -> list[RolloutGroup]:
            if device is not None:
                torch.cuda.set_device(device)  # a thread starts on device 0
            return self.engine.generate(prompts, self.sampling, seeds)

        self._running = self._thread.submit(generate)

    def join(self) -> list[RolloutGroup] | None:
        """The groups that ``start`` asked for, once they are there; None if it did not. Raises the engine's error."""
        running, self._running = self._running, None
        return None if running is None else running.result()

    def keep(self, rollouts: Rollouts) -> None:
        """Hold ``rollouts`` for the step that takes their questions."""
        self._kept = rollouts

    def take(self, prompts: Sequence[PromptInputs]) -> Rollouts | None:
        """What was kept, or saved in a checkpoint, for this batch; None where nothing was.

        Raises ConfigError where it belongs to other questions: the run would not go on as it was.
        """
        rollouts, self._kept = self._kept, None
        restored, self._restored = share_of_rank(self._restored), []
        if rollouts is None and not restored:
            return None
        there = [e["question"] for e in restored] if rollouts is None else [g.question.id for g in rollouts.groups]
        asked = [prompt.question.id for prompt in prompts]
        if there != asked:
            raise ConfigError(
                f"rollouts were generated ahead for the questions {', '.join(there)}, and the next batch has "
                f"{', '.join(asked)}: resume with the data, seed and questions_per_step of the checkpoint"
            )
        return rollouts or _from_entries(restored, prompts)

    def state_dict(self) -> list[dict[str, Any]]:
        """What is kept, on all ranks, as plain containers and tensors; to be called on all of them."""
        return self._restored if self._kept is None else gather_over_ranks(_to_entries(self._kept))

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        self._kept, self._restored = None, state

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def __enter__(self) -> "RolloutsAhead":
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        if self._running is not None and (kind is None or issubclass(kind, Exception)):
            wait([self._running])
            if error := self._running.exception():
                log.error("generating the next batch failed too: %s", error)
            self._running = None


def _to_entries(rollouts: Rollouts) -> list[dict[str, Any]]:
    return [
        {
            "question": group.question.id,
            "completions": [dict(vars(completion)) for completion in group.completions],
            "contrast": [dict(vars(completion)) for completion in group.contrast],
            "old_logps": None if old_logps_GT is None else old_logps_GT.cpu(),
        }
        for group, old_logps_GT in zip(rollouts.groups, rollouts.old_logps, strict=True)
    ]


def _from_entries(entries: Sequence[dict[str, Any]], prompts: Sequence[PromptInputs]) -> Rollouts:
    groups = []
    for entry, prompt in zip(entries, prompts, strict=True):
        own, contrast = (tuple(Completion(**fields) for fields in entry[part]) for part in ("completions", "contrast"))
        groups.append(RolloutGroup(prompt, own, contrast))
    return Rollouts(groups, None, [entry["old_logps"] for entry in entries])
