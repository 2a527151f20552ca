"""The world: a few coloured shapes appear one after the other, each moving once and then gone.

An event spans ``settings.patches_per_event`` temporal patches (two frames each) and stands still inside a patch, so
that order and motion exist only *across* temporal patches, and shuffling whole patches removes them and nothing else.
Colours are unique within a scene: a colour names its event.
"""

from dataclasses import dataclass

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 240),
    "yellow": (235, 220, 40),
    "purple": (170, 50, 210),
    "white": (240, 240, 240),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "cross")
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
ORDINALS: tuple[str, ...] = ("first", "second", "third", "fourth", "fifth", "sixth")
TEMPORAL_PATCH_SIZE = 2


@dataclass(frozen=True)
class Event:
    """One shape that crosses the picture: words of ``COLORS``, ``SHAPES`` and ``DIRECTIONS``."""

    color: str
    shape: str
    direction: str


Scene = tuple[Event, ...]


@dataclass(frozen=True)
class WorldSettings:
    """Size of the videos. 32 or 64 frames make longer events, or more of them with a larger ``max_events``.

    Raises ValueError where the frames do not hold ``max_events`` events of at least two temporal patches.
    """

    num_frames: int = 16
    min_events: int = 3
    max_events: int = 4
    frame_size: int = 56
    fps: float = 2.0

    def __post_init__(self) -> None:
        limit = min(len(COLORS), len(ORDINALS))
        if not 2 <= self.min_events <= self.max_events <= limit:
            raise ValueError(f"need 2 <= min_events <= max_events <= {limit}, got {self.min_events}, {self.max_events}")
        if self.patches_per_event < 2:
            raise ValueError(
                f"num_frames={self.num_frames} holds {self.num_temporal_patches} temporal patches, fewer than two for "
                f"each of max_events={self.max_events} events: raise num_frames to {4 * self.max_events} or lower "
                "max_events"
            )

    @property
    def num_temporal_patches(self) -> int:
        return self.num_frames // TEMPORAL_PATCH_SIZE

    @property
    def patches_per_event(self) -> int:
        return self.num_temporal_patches // self.max_events


def sample_scene(rng: np.random.Generator, settings: WorldSettings) -> Scene:
    """A random scene: unique colours, free shapes and directions, ``min_events`` to ``max_events`` events."""
    num_events = int(rng.integers(settings.min_events, settings.max_events + 1))
    colors = rng.permutation(list(COLORS))[:num_events]
    shapes = rng.choice(SHAPES, num_events)
    directions = rng.choice(list(DIRECTIONS), num_events)
    return tuple(Event(str(c), str(s), str(d)) for c, s, d in zip(colors, shapes, directions, strict=True))
