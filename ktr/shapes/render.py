"""Scenes to frames: flat shapes with a little jitter on a dark, textured ground."""

import numpy as np

from ktr.shapes.world import COLORS, DIRECTIONS, TEMPORAL_PATCH_SIZE, Scene, WorldSettings

RADIUS = 10 / 56  # of the frame
STEP = 13 / 56  # from the centre to where a move starts and ends
JITTER = 2 / 56
NOISE = 4.0  # standard deviation of the ground's texture, in levels of 255


def shape_mask(shape: str, center_x: float, center_y: float, size: int) -> np.ndarray:
    """Boolean (size, size) mask of a shape of radius ``RADIUS`` around a centre given in pixels."""
    y, x = np.mgrid[:size, :size]
    dx, dy, r = x - center_x, y - center_y, RADIUS * size
    if shape == "circle":
        return dx**2 + dy**2 <= r**2
    if shape == "square":
        return np.maximum(abs(dx), abs(dy)) <= 0.9 * r
    if shape == "triangle":
        return (abs(dy) <= r) & (abs(dx) <= (dy + r) / 2)
    if shape == "cross":
        return (np.minimum(abs(dx), abs(dy)) <= 0.35 * r) & (np.maximum(abs(dx), abs(dy)) <= r)
    raise ValueError(f"no shape named {shape!r}")


def render(scene: Scene, settings: WorldSettings, rng: np.random.Generator) -> np.ndarray:
    """Frames of a scene, uint8 (num_frames, size, size, 3); the two frames of a temporal patch are equal.

    Events are packed from the first frame on; what is left after the last one is empty ground. ``rng`` draws the
    ground's colour and texture and each patch's jitter, nothing that a question asks about.
    """
    size, span = settings.frame_size, settings.patches_per_event
    ground = rng.integers(10, 45, 3).astype(np.float32) + rng.normal(0, NOISE, (size, size, 1)).astype(np.float32)
    patches = np.tile(ground, (settings.num_temporal_patches, 1, 1, 1))
    for index, event in enumerate(scene):
        step_x, step_y = DIRECTIONS[event.direction]
        for patch in range(span):
            along = STEP * size * (2 * patch / (span - 1) - 1)
            jitter_x, jitter_y = rng.uniform(-JITTER, JITTER, 2) * size
            mask = shape_mask(
                event.shape, size / 2 + along * step_x + jitter_x, size / 2 + along * step_y + jitter_y, size
            )
            patches[index * span + patch][mask] = COLORS[event.color]
    frames = patches.clip(0, 255).round().astype(np.uint8).repeat(TEMPORAL_PATCH_SIZE, axis=0)
    return np.concatenate([frames, frames[-1:].repeat(settings.num_frames - len(frames), axis=0)])
