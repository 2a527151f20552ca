"""An honest but imperfect observer, whose notes the cold start learns from and reinforcement then improves on."""

from dataclasses import dataclass, replace

import numpy as np

from ktr.shapes.questions import TEMPORAL_KINDS
from ktr.shapes.world import COLORS, DIRECTIONS, SHAPES, Event, Scene


@dataclass(frozen=True)
class Observer:
    """How the writer of a reasoning trace looks at the video.

    Each rate is a probability: to stop watching after two events (``hasty``), to overlook one event (``overlook``), to
    misread one attribute of an event (``misread``), to answer with no reasoning, but then from the true scene
    (``direct``), to put a filler phrase where one fits (``filler``). ``prose`` is the number of sentences, which say
    nothing, that it writes wherever one fits.
    """

    hasty: float = 0.6
    overlook: float = 0.1
    misread: float = 0.25
    direct: float = 0.2
    filler: float = 0.2
    prose: int = 0

    def watch(self, scene: Scene, kind: str, rng: np.random.Generator) -> Scene:
        """What the observer believes to have seen. Temporal questions make it look at the whole video, the others at
        the one attribute that they ask for."""
        seen = list(scene)
        if kind in TEMPORAL_KINDS:
            if rng.random() < self.overlook and len(seen) > 2:
                seen.pop(int(rng.integers(len(seen))))
            if rng.random() < self.hasty:
                seen = seen[:2]
        attributes = ("color", "direction") if kind in TEMPORAL_KINDS else (kind,)
        return tuple(misread(event, attributes, rng) if rng.random() < self.misread else event for event in seen)


def misread(event: Event, attributes: tuple[str, ...], rng: np.random.Generator) -> Event:
    """Redraw one of the attributes."""
    words = {"color": list(COLORS), "shape": list(SHAPES), "direction": list(DIRECTIONS)}
    attribute = str(rng.choice(attributes))
    return replace(event, **{attribute: str(rng.choice(words[attribute]))})


PERFECT = Observer(hasty=0.0, overlook=0.0, misread=0.0, direct=0.0)
