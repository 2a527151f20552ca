"""High-entropy tokens with a threshold over the batch."""

import math

import pytest
import torch

from ktr.algorithm.entropy_minority import BatchEntropy, BatchWeighting
from ktr.algorithm.weighting import KeyTokens, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal
from ktr.types import TokenScores

LENGTHS = [[7, 3, 1], [5, 5, 2], [4, 9, 9]]
MASKS = [torch.arange(9)[None] < torch.tensor(lengths)[:, None] for lengths in LENGTHS]
EOS = torch.zeros(3, 9, dtype=torch.bool)


def batch() -> list[TokenScores]:
    """Three groups, the second of them far more certain than the others; garbage off the masks."""
    scales = [1.0, 0.01, 2.0]
    return [TokenScores(torch.zeros(3, 9), scale * torch.rand(3, 9)) for scale in scales]


def fitted(ratio: float, scores: list[TokenScores]) -> list[torch.Tensor]:
    entropies = [score.entropies_GT[mask] for score, mask in zip(scores, MASKS, strict=True)]
    weighting = BatchEntropy(ratio).for_batch(entropies)
    return [weighting(GroupScores(score, {}, mask, EOS)).weights_GT for score, mask in zip(scores, MASKS, strict=True)]


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5])
def test_the_top_ratio_of_the_tokens_of_the_batch_count_wherever_they_are(ratio):
    scores = batch()
    weights = fitted(ratio, scores)
    entropies = torch.cat([s.entropies_GT[m] for s, m in zip(scores, MASKS, strict=True)])
    chosen = torch.cat([w[m] for w, m in zip(weights, MASKS, strict=True)]).bool()
    assert chosen.sum() == math.ceil(ratio * len(entropies))
    assert entropies[chosen].min() > entropies[~chosen].max()
    assert not any(w[~m].any() for w, m in zip(weights, MASKS, strict=True))


def test_it_is_not_the_top_of_each_completion():
    scores = batch()
    local = KeyTokens({"entropy": EntropySignal()}, TopRatio(0.2))
    certain = local(GroupScores(scores[1], {}, MASKS[1], EOS)).weights_GT
    assert certain.any() and not fitted(0.2, scores)[1].any()


def test_ratio_one_is_uniform_bitwise():
    scores = batch()
    for score, mask, weights in zip(scores, MASKS, fitted(1.0, scores), strict=True):
        assert torch.equal(weights, Uniform()(GroupScores(score, {}, mask, EOS)).weights_GT)


def test_ties_at_the_threshold_are_kept():
    entropies = torch.tensor([[1.0, 1.0, 1.0, 0.5, 0.0]])
    weighting = BatchEntropy(0.2).for_batch([entropies[0]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    weights = weighting(GroupScores(TokenScores(torch.zeros(1, 5), entropies), {}, mask, ~mask)).weights_GT
    assert weights.tolist() == [[1.0, 1.0, 1.0, 0.0, 0.0]]


def test_it_must_see_the_batch_first_and_other_weightings_need_not():
    with pytest.raises(ValueError, match="for_batch"):
        BatchEntropy()(GroupScores(batch()[0], {}, MASKS[0], EOS))
    with pytest.raises(ValueError, match="ratio=0"):
        BatchEntropy(0)
    assert isinstance(BatchEntropy(), BatchWeighting) and not isinstance(Uniform(), BatchWeighting)
    assert BatchEntropy().for_batch([]).threshold == -math.inf  # a batch that teaches nothing
