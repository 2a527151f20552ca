"""Examples: a video, a question, a reasoning, drawn from a seed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ktr.shapes.observer import PERFECT, Observer
from ktr.shapes.questions import Question, ask
from ktr.shapes.reasoning import Role, Word, reason
from ktr.shapes.render import render
from ktr.shapes.world import Scene, WorldSettings

KIND_SHARES: dict[str, float] = {
    "nth": 0.15,
    "before": 0.15,
    "after": 0.15,
    "two_hop": 0.13,
    "direction": 0.11,
    "count": 0.07,
    "shape": 0.12,
    "color": 0.12,
}


@dataclass(frozen=True)
class Mixture:
    """Which questions are asked, and who writes their reasoning. Raises ValueError where no question could be drawn."""

    kind_shares: Mapping[str, float] = field(default_factory=lambda: dict(KIND_SHARES))
    multiple_choice: float = 0.1
    observer: Observer = PERFECT

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kind_shares if kind not in KIND_SHARES]:
            raise ValueError(f"kind_shares: there is no kind {unknown[0]}; choose from {', '.join(KIND_SHARES)}")
        if min(self.kind_shares.values(), default=0) < 0 or not sum(self.kind_shares.values()) > 0:
            raise ValueError(f"kind_shares={dict(self.kind_shares)}: give shares of 0 or more, and one above 0")
        if not 0 <= self.multiple_choice <= 1:
            raise ValueError(f"multiple_choice={self.multiple_choice}: it is a share, from 0 to 1")


@dataclass(frozen=True)
class Example:
    """A question about a scene; ``trace`` holds the words between the think tags, ``answer`` what it concludes."""

    scene: Scene
    question: Question
    trace: tuple[Word, ...]
    answer: str
    seed: tuple[int, ...]

    def frames(self, settings: WorldSettings) -> np.ndarray:
        """uint8 (num_frames, size, size, 3), the same at every call."""
        return render(self.scene, settings, np.random.default_rng((*self.seed, 1)))

    @property
    def process(self) -> str:
        return " ".join(["<think>", *(word.text for word in self.trace), "</think>"])

    @property
    def process_roles(self) -> list[Role]:
        """Role of each word of ``process``, tags included."""
        return [Role.NOTHING, *(word.role for word in self.trace), Role.NOTHING]

    def row(self, problem_id: int, path: str) -> dict[str, Any]:
        """The example in the Video-R1 format; ``scene`` and what follows are keys of our own."""
        return {
            "problem_id": problem_id,
            "problem": self.question.text,
            "data_type": "video",
            "problem_type": self.question.problem_type,
            "options": list(self.question.options),
            "process": self.process,
            "solution": f"<answer>{self.answer}</answer>",
            "path": path,
            "data_source": "shapes",
            "original_question_type": self.question.kind,
            "scene": [asdict(event) for event in self.scene],
            "target": self.question.target,
            "true_answer": self.question.answer,
            "process_roles": [str(role) for role in self.process_roles],
        }


def draw_example(seed: tuple[int, ...], settings: WorldSettings, mixture: Mixture) -> Example:
    """The example that a seed stands for, so that any row can be made alone and in any order."""
    rng = np.random.default_rng((*seed, 0))
    kinds = [kind for kind in KIND_SHARES if kind in mixture.kind_shares]  # whatever order they are given in
    shares = np.array([mixture.kind_shares[kind] for kind in kinds])
    kind = str(rng.choice(kinds, p=shares / shares.sum()))
    scene, question = ask(kind, settings, bool(rng.random() < mixture.multiple_choice), rng)
    trace, answer = reason(question, scene, mixture.observer, rng)
    return Example(scene, question, tuple(trace), answer, seed)
