"""Questions about a scene, and their true answers.

Order kinds need to know which event is the n-th, motion kinds where a shape goes; the appearance kinds only name what
can be seen in any one frame of the event. ``COMPOSED_KINDS`` take more than one look at the video.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ktr.shapes.world import COLORS, DIRECTIONS, ORDINALS, SHAPES, Event, Scene, WorldSettings, sample_scene
from ktr.types import ProblemType

ORDER_KINDS: tuple[str, ...] = ("nth", "before", "after", "two_hop")
MOTION_KINDS: tuple[str, ...] = ("direction", "count")
APPEARANCE_KINDS: tuple[str, ...] = ("shape", "color")
TEMPORAL_KINDS: tuple[str, ...] = ORDER_KINDS + MOTION_KINDS
COMPOSED_KINDS: tuple[str, ...] = (*ORDER_KINDS, "count")
KINDS: tuple[str, ...] = TEMPORAL_KINDS + APPEARANCE_KINDS

LETTERS: tuple[str, ...] = ("A", "B", "C", "D")
MAX_COUNT = 3

PHRASES: dict[str, tuple[str, ...]] = {
    "nth": ("what color is the {} thing ?", "what color comes {} ?"),
    "before": ("what color comes right before {} ?", "what color is right before the {} thing ?"),
    "after": ("what color comes right after {} ?", "what color is right after the {} thing ?"),
    "two_hop": ("which way does the thing right after {} move ?", "which way goes the thing that comes after {} ?"),
    "direction": ("which way does the {} thing move ?", "which way goes the {} thing ?"),
    "count": ("how many move {} ?", "how many things go {} ?"),
    "shape": ("what shape is the {} thing ?", "what shape has the {} thing ?"),
    "color": ("what color is the {} ?", "what color has the {} ?"),
}


@dataclass(frozen=True)
class Question:
    """A question of one ``kind`` about ``target``, the word it turns on; ``answer`` is a letter if it has options."""

    kind: str
    target: str
    text: str
    problem_type: ProblemType
    answer: str
    options: tuple[str, ...] = ()

    @property
    def answer_word(self) -> str:
        """The answer in words: what the option behind the letter says."""
        if not self.options:
            return self.answer
        return self.options[LETTERS.index(self.answer)].split(". ", 1)[1]


def _position(scene: Scene, color: str) -> int:
    return [event.color for event in scene].index(color)


SOLVERS: dict[str, Callable[[Scene, str], str]] = {
    "nth": lambda scene, n: scene[-1 if n == "last" else ORDINALS.index(n)].color,
    "before": lambda scene, color: scene[_position(scene, color) - 1].color,
    "after": lambda scene, color: scene[_position(scene, color) + 1].color,
    "two_hop": lambda scene, color: scene[_position(scene, color) + 1].direction,
    "direction": lambda scene, color: scene[_position(scene, color)].direction,
    "count": lambda scene, direction: str(sum(event.direction == direction for event in scene)),
    "shape": lambda scene, color: scene[_position(scene, color)].shape,
    "color": lambda scene, shape: next(event.color for event in scene if event.shape == shape),
}


def targets(scene: Scene, kind: str) -> list[str]:
    """The words that a question of this kind may ask about in this scene; may be empty."""
    colors, shapes = [event.color for event in scene], [event.shape for event in scene]
    match kind:
        case "nth":
            return [*ORDINALS[: len(scene) - 1], "last"]
        case "before":
            return colors[1:]
        case "after" | "two_hop":
            return colors[:-1]
        case "direction" | "shape":
            return colors
        case "color":
            return [shape for shape in SHAPES if shapes.count(shape) == 1]
        case "count":
            return list(DIRECTIONS)
    raise ValueError(f"no kind of question named {kind!r}")


def candidates(kind: str, target: str) -> tuple[str, ...]:
    """The answers that someone who has not seen the video cannot rule out."""
    match kind:
        case "count":
            return tuple(str(n) for n in range(MAX_COUNT + 1))
        case "two_hop" | "direction":
            return tuple(DIRECTIONS)
        case "shape":
            return SHAPES
        case _:
            return tuple(color for color in COLORS if color != target)


def chance(kind: str, target: str, options: Sequence[str] = ()) -> float:
    """Probability that a uniform guess among the answers that the question's text allows is right.

    Options if there are any, else the words of the right sort without the one that the question names. Answers are
    spread evenly over them, so no constant answer does better.
    """
    return 1 / len(options or candidates(kind, target))


def _with_count(scene: Scene, direction: str, rng: np.random.Generator) -> Scene:
    """Redraw the directions so that every count from 0 to ``MAX_COUNT`` is equally likely."""
    hits = set(rng.permutation(len(scene))[: int(rng.integers(MAX_COUNT + 1))].tolist())
    others = [word for word in DIRECTIONS if word != direction]

    def redraw(index: int, event: Event) -> Event:
        return replace(event, direction=direction if index in hits else str(rng.choice(others)))

    return tuple(redraw(index, event) for index, event in enumerate(scene))


def ask(kind: str, settings: WorldSettings, multiple_choice: bool, rng: np.random.Generator) -> tuple[Scene, Question]:
    """A scene and a question of ``kind`` about it. Counts are numerical, so ``multiple_choice`` does not touch them."""
    scene = sample_scene(rng, settings)
    while not targets(scene, kind):
        scene = sample_scene(rng, settings)
    target = str(rng.choice(targets(scene, kind)))
    if kind == "count":
        scene = _with_count(scene, target, rng)
    text = str(rng.choice(PHRASES[kind])).format(target)
    answer = SOLVERS[kind](scene, target)
    if kind == "count":
        return scene, Question(kind, target, text, "numerical", answer)
    if not multiple_choice:
        return scene, Question(kind, target, text, "free-form", answer)
    wrong = [word for word in candidates(kind, target) if word != answer]
    shown = rng.permutation([answer, *rng.permutation(wrong)[: len(LETTERS) - 1]]).tolist()
    options = tuple(f"{letter}. {word}" for letter, word in zip(LETTERS, shown, strict=True))
    return scene, Question(kind, target, text, "multiple choice", LETTERS[shown.index(answer)], options)
