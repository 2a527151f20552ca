"""Scores that know nothing of prompt or policy, for controls."""

import zlib

import torch

from ktr.scoring.frame_orders import order_generator
from ktr.types import RolloutGroup, TokenScores


def chance_scores(group: RolloutGroup, seed: int, device: torch.device) -> TokenScores:
    """Scores under the view ``Chance``: log-probs log U, U uniform on (0, 1], fixed by seed and completion.

    Another order of the completions, or another place in the batch, gives a completion the same numbers.
    """
    logps_GT = torch.zeros(group.completion_mask_GT.shape)
    for row, completion in enumerate(group.completions):
        words = zlib.crc32(completion.token_ids_T.cpu().numpy().tobytes())
        uniform_T = torch.rand(len(completion.token_ids_T), generator=order_generator(seed ^ words, 0))
        logps_GT[row, : len(uniform_T)] = torch.log1p(-uniform_T)
    return TokenScores(logps_GT.to(device))
