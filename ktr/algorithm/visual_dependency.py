r"""Weights by how much a completion, and each of its tokens, depends on the video (VPPO, arXiv 2510.09285).

With D[i,t] the dependency of a token (a signal's score) and d_i its mean over the completion:

    n_i = (d_i − min d) / (max d − min d),    α_i = a + (1 − a) · n_i / mean(n),    w[i,t] = α_i on the selected tokens

so that the mean of α over the group is 1 and none is below a = ``least``; where they hardly differ, all are 1.
α multiplies advantages of either sign: a wrong completion that looked at the video is pushed down the more.

Assumption: completions are compared within their group, whose advantages are relative too. The released code takes the
extremes over what lies in one micro-batch, of other questions as well, and switches this off where that is one row.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.algorithm.weighting import KeyTokens
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import Selection
from ktr.attribution.signals import Signal
from ktr.types import TokenWeights

SAME = 1e-6  # completions whose dependencies differ by less are alike


class VisualDependency(KeyTokens):
    """``KeyTokens``, times the completion's share of the group's dependency: the mean of its signals' mean scores."""

    def __init__(self, signals: Mapping[str, Signal | None], selection: Selection, least: float = 0.9) -> None:
        super().__init__(signals, selection)
        if not 0 <= least <= 1:
            raise ValueError(f"least={least}: the smallest weight of a completion lies in [0, 1]")
        self.least = least

    def __call__(self, group: GroupScores) -> TokenWeights:
        weights = super().__call__(group)
        if not weights.scores:
            return weights
        dependency_GT = torch.stack(list(weights.scores.values())).mean(0)
        mean_G = dependency_GT.sum(1) / group.completion_mask_GT.sum(1).clamp(min=1)
        alpha_G = completion_weights(mean_G, self.least)
        return replace(weights, weights_GT=weights.weights_GT * alpha_G[:, None].to(weights.weights_GT))


def completion_weights(dependency_G: Float[Tensor, " G"], least: float) -> Float[Tensor, " G"]:
    """α of each completion: ``least`` for the one that depends least, 1 on the mean."""
    low, high = dependency_G.min(), dependency_G.max()
    scaled_G = (dependency_G - low) / (high - low).clamp(min=SAME)
    weights_G = least + (1 - least) * scaled_G / scaled_G.mean().clamp(min=SAME)
    return torch.where(high - low < SAME, 1.0, weights_G)  # no branch: that would wait for the device
