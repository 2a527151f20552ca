r"""The temporal contrast of T-GRPO (Video-R1, arXiv 2503.21776).

Besides the G completions about the video in order, G/2 are sampled about the same video with its frames shuffled. With
p the mean accuracy of the first and p̃ of the second,

    r_i += bonus   if p ≥ μ·p̃ and accuracy_i > threshold

so that a right answer pays more where order helps to find it. Bonus 0.3, threshold 0.1; μ is 1.0 in the paper (0.8 in
its code, by its author a value left from debugging).

Assumptions:
- The shuffled rollouts shape the reward and are never learned from. An image has no order, and earns no bonus.
- Where accuracy is 0 or 1 and no other reward is on, all right answers of a group get the same bonus, and the
  normalisation of advantages cancels it: it acts only together with soft accuracies or other rewards.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.attribution.views import Granularity, Order, ShuffledFrames, WhichMedia
from ktr.rewards.accuracy import Accuracy
from ktr.rewards.composite import ContrastRollouts
from ktr.types import RolloutGroup


class TemporalContrast:
    """``bonus`` for each right answer of a group that does at least ``mu`` times as well as its shuffled one.

    ``granularity`` and ``order`` say how the frames of the videos that ``media`` names are shuffled, ``share`` how many
    completions see them so, as a share of the group's. A group without such completions (an image, a held-out question)
    earns nothing.
    """

    name = "temporal_contrast"

    def __init__(
        self,
        accuracy: Accuracy,
        mu: float = 1.0,
        bonus: float = 0.3,
        threshold: float = 0.1,
        share: float = 0.5,
        granularity: Granularity = "frame",
        order: Order = "random",
        media: WhichMedia = "all",
    ) -> None:
        self.accuracy, self.mu, self.bonus, self.threshold = accuracy, mu, bonus, threshold
        self.contrast = ContrastRollouts(ShuffledFrames(granularity, order, media=media), share)

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        accuracies_G = self.accuracy(group)
        if not group.contrast:
            return torch.zeros_like(accuracies_G)
        shuffled_N = self.accuracy(RolloutGroup(group.prompt, group.contrast))
        order_helps = accuracies_G.mean() >= self.mu * shuffled_N.mean()
        return self.bonus * (order_helps & (accuracies_G > self.threshold)).to(accuracies_G.dtype)
