"""Copying drills: lists of events as text, without a video, and the steps of a derivation that look things up in them.

What a small model learns last is to look up a word in its own text and to write what stands beside it. A trace holds
two or three such steps behind a video of 32 tokens; a drill holds a dozen and no video, so that the circuit forms in a
fraction of the time.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ktr.policy.qwen_vl import QwenVLPolicy
from ktr.scoring.packing import PackedLayout
from ktr.scoring.prefix_attention import GroupSpan
from ktr.scoring.token_head import token_logps
from ktr.shapes.questions import LETTERS
from ktr.shapes.reasoning import NUMBERS
from ktr.shapes.world import COLORS, ORDINALS
from ktr.types import PromptInputs


def drill(scene: Sequence[dict[str, str]], num_steps: int, rng: np.random.Generator) -> tuple[list[str], list[bool]]:
    """Words of a drill about a scene, and which of them copy what the text before them settles.

    Options with letters, the list of events, then steps in a random order: a colour and its number, an ordinal and its
    colour, a number and its direction, an option's word and its letter.
    """
    colors = [event["color"] for event in scene]
    others = [color for color in COLORS if color not in colors]
    shown = rng.permutation([*colors, *others])[: len(LETTERS)].tolist()
    text = ["Options", ":"] + [word for pair in zip(LETTERS, shown, strict=True) for word in (f"{pair[0]}.", pair[1])]
    steps = [(color, letter) for letter, color in zip(LETTERS, shown, strict=True)]
    for index, event in enumerate(scene):
        text += [ORDINALS[index], event["color"], NUMBERS[index], event["direction"], "."]
        steps += [
            (event["color"], NUMBERS[index]),
            (ORDINALS[index], event["color"]),
            (NUMBERS[index], event["direction"]),
        ]
    copied = [False] * len(text)
    for key, value in [steps[i] for i in rng.integers(len(steps), size=num_steps)]:
        # A letter is asked for by "option": else a colour's number is meant.
        text += (["option"] if value in LETTERS else ["so"]) + [key, value]
        copied += [False, False, True]
    return text, copied


class CopyingDrill:
    """``weight`` times the mean negative log-probability of the copied words, one drill for each of the first
    ``num_drills`` questions of a batch, about its scene."""

    def __init__(self, num_drills: int = 16, num_steps: int = 12, weight: float = 1.0):
        self.num_drills = num_drills
        self.num_steps = num_steps
        self.weight = weight

    def __call__(
        self, policy: QwenVLPolicy, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "N D"]]
    ) -> Float[Tensor, ""]:
        ids, positions, spans, copied = [], [], [], []
        start = 0
        for prompt in prompts[: self.num_drills]:
            rng = np.random.default_rng(zlib.crc32(prompt.question.id.encode()))
            text, is_copy = drill(prompt.question.extra["scene"], self.num_steps, rng)
            ids += policy.tokenizer.convert_tokens_to_ids(text)
            positions += range(len(text))
            spans.append(GroupSpan(start, len(text) - 1, 1, 1))
            copied += is_copy
            start += len(text)
        input_ids = torch.tensor(ids)
        (targets,) = torch.where(torch.tensor(copied))
        hidden_LD = policy.hidden_states(
            input_ids, torch.tensor(positions).expand(3, -1), features[0][:0], PackedLayout(tuple(spans))
        )
        logps_N, _ = token_logps(
            hidden_LD[targets - 1], policy.head_weight, input_ids[targets], policy.banned_ids, entropy=False
        )
        return -self.weight * logps_N.mean()
