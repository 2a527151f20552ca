"""Vision-word alignment: each merged visual token predicts, through the tied head, the words for what its patch shows.

Without this stage nothing grounds: next-token loss alone does not find the colours in the pixels within the budget.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ktr.policy.family import Policy
from ktr.types import PromptInputs

OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
EMPTY = "nothing"


def patch_words(scene: Sequence[dict[str, str]], num_patches: int, max_events: int) -> list[tuple[str, str, str]]:
    """Colour, shape and place that each temporal patch shows; a move to the left starts on the right."""
    span = num_patches // max_events
    words = []
    for event in scene:
        for patch in range(span):
            place = event["direction"] if 2 * patch >= span else OPPOSITE[event["direction"]]
            words.append((event["color"], event["shape"], place))
    return words + [(EMPTY, EMPTY, EMPTY)] * (num_patches - len(words))


class AlignmentLoss:
    """``weight`` times the mean negative log-probability of the colour, shape and place words under each visual token.

    Questions must carry the world's ``scene``. ``max_events`` is that of the world's settings.
    """

    def __init__(self, max_events: int = 4, weight: float = 1.0):
        self.max_events = max_events
        self.weight = weight

    def __call__(
        self, policy: Policy, prompts: Sequence[PromptInputs], features: Sequence[Float[Tensor, "_ F"]]
    ) -> Float[Tensor, ""]:
        words_N3 = []
        for prompt, feature_NF in zip(prompts, features, strict=True):
            words = patch_words(prompt.question.extra["scene"], prompt.media[0].grid_thw[0], self.max_events)
            ids = torch.tensor([policy.tokenizer.convert_tokens_to_ids(list(triple)) for triple in words])
            words_N3.append(ids.repeat_interleave(len(feature_NF) // len(words), 0))
        # The head reads normalised states, so the features are normalised as the last layer's output would be.
        features_NF = torch.cat(list(features))
        normalised_ND = F.rms_norm(features_NF, features_NF.shape[-1:])
        logps_NV = policy.head(normalised_ND).float().log_softmax(-1)
        return -self.weight * logps_NV.gather(1, torch.cat(words_N3).to(logps_NV.device)).mean()
