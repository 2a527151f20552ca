"""Copying drills: lists of events as text, without a video, and the steps of a derivation that look things up in them.

What a small model learns last is to look up a word in its own text and to write what stands beside it. A trace holds
two or three such steps behind a video of 32 tokens; a drill holds a dozen and no video, so that the circuit forms in a
fraction of the time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ktr.policy.family import Policy
from ktr.policy.packed_row import GroupSpan, PackedLayout, PackedRow
from ktr.shapes.questions import LETTERS
from ktr.shapes.reasoning import HERE
from ktr.shapes.world import COLORS, ORDINALS
from ktr.types import PromptInputs


def drill(scene: Sequence[dict[str, str]], num_steps: int, rng: np.random.Generator) -> tuple[list[str], list[bool]]:
    """Words of a drill about a scene, and which of them the text before them settles.

    A colour to look for, the list of events with a note where that colour is met, then steps in a random order: "here"
    and its ordinal; an ordinal, its colour, and the direction of that, or in every other drill the letter of an option.
    """
    colors = [event["color"] for event in scene]
    target = str(rng.choice(colors))
    drilled: list[tuple[str, bool]] = []

    def say(text: str, settled: str = "") -> None:
        drilled.extend([(word, False) for word in text.split()] + [(word, True) for word in settled.split()])

    shown = dict(zip(rng.permutation(_some_colors(colors, rng)).tolist(), LETTERS, strict=True))
    with_options = bool(rng.random() < 0.5)
    say(f"right after {target} ?")
    if with_options:
        say(" ".join(["Options :", *(f"{letter}. {color}" for color, letter in shown.items())]))
    for ordinal, event in zip(ORDINALS, scene, strict=False):
        say(f"{ordinal} {event['color']}", f"{HERE} {ordinal}" if event["color"] == target else "")
        if with_options:
            say("", ".")
        else:
            say(f"{event['direction']} .")
    for index in rng.integers(-1, len(scene), size=num_steps):
        if index < 0:
            say(f"so {HERE}", ORDINALS[colors.index(target)])
        else:
            last = shown.get(colors[index], ".") if with_options else scene[index]["direction"]
            say(f"so {ORDINALS[index]}", f"{colors[index]} {last}")
    return [word for word, _ in drilled], [settled for _, settled in drilled]


def _some_colors(colors: Sequence[str], rng: np.random.Generator) -> list[str]:
    """As many colours as there are letters, those of the scene first."""
    others = [color for color in COLORS if color not in colors]
    return [*colors, *rng.permutation(others).tolist()][: len(LETTERS)]


class CopyingDrill:
    """``weight`` times the mean negative log-probability of the copied words, one drill for each of the first
    ``num_drills`` questions of a batch, about its scene."""

    def __init__(self, num_drills: int = 16, num_steps: int = 8, weight: float = 1.0):
        self.num_drills = num_drills
        self.num_steps = num_steps
        self.weight = weight

    def __call__(
        self, policy: Policy, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "_ F"]]
    ) -> Float[Tensor, ""]:
        ids, positions, spans, copied = [], [], [], []
        start = 0
        for prompt in prompts[: self.num_drills]:
            rng = np.random.default_rng(prompt.question.seed())
            text, is_copy = drill(prompt.question.extra["scene"], self.num_steps, rng)
            ids += policy.tokenizer.convert_tokens_to_ids(text)
            positions += range(len(text))
            spans.append(GroupSpan(start, len(text) - 1, (1,)))
            copied += is_copy
            start += len(text)
        input_ids = torch.tensor(ids)
        (targets,) = torch.where(torch.tensor(copied))
        row = PackedRow(
            input_ids,
            torch.tensor(positions).expand(3, -1),
            features[0][:0],
            PackedLayout(tuple(spans)),
            targets - 1,
            input_ids[targets],
        )
        logps_M, _, _ = policy.score_row(row, temperature=1.0, chunk_size=512, entropy=False)
        return -self.weight * logps_M.mean()
