"""Laws of top-ratio selection."""

import math

import pytest
import torch

from ktr.attribution.overlap import selection_statistics
from ktr.attribution.selection import TopRatio, union


def ragged(seed: int = 0, G: int = 6, T: int = 23) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (some zero, some tied, large off the mask), completion mask, and EOS on all but the first completion."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 9, (G, T), generator=generator).float() / 4
    lengths = torch.randint(1, T + 1, (G,), generator=generator)
    lengths[0] = T
    steps = torch.arange(T)[None]
    mask = steps < lengths[:, None]
    eos = steps == lengths[:, None] - 1
    eos[0] = False
    return torch.where(mask, scores, 1e6), mask, eos


def naive(scores, mask, eos, ratio, scope, eos_selectable):
    """One token at a time: the best first, an earlier one before a later one."""
    selected = torch.zeros_like(mask)
    tokens = [(i, t) for i in range(mask.shape[0]) for t in range(mask.shape[1]) if mask[i, t]]
    rows = [tokens] if scope == "group" else [[x for x in tokens if x[0] == i] for i in range(mask.shape[0])]
    for row in rows:
        count = math.ceil(round(ratio * len(row), 6))
        candidates = [x for x in row if scores[x] > 0 and (eos_selectable or not eos[x])]
        for x in sorted(candidates, key=lambda x: -scores[x].item())[:count]:
            selected[x] = True
    return selected


@pytest.mark.parametrize("ratio", [0.07, 0.2, 0.5, 0.95])
@pytest.mark.parametrize("scope", ["completion", "group"])
@pytest.mark.parametrize("eos_selectable", [False, True])
def test_agrees_with_one_token_at_a_time(ratio, scope, eos_selectable):
    for seed in range(5):
        scores, mask, eos = ragged(seed)
        select = TopRatio(ratio, scope, eos_selectable=eos_selectable)
        assert torch.equal(select(scores, mask, eos), naive(scores, mask, eos, ratio, scope, eos_selectable))


@pytest.mark.parametrize("scope", ["completion", "group"])
@pytest.mark.parametrize("ties", ["deterministic", "keep"])
def test_never_off_the_mask_never_eos_never_a_zero_score(scope, ties):
    scores, mask, eos = ragged()
    selected = TopRatio(0.9, scope, ties)(scores, mask, eos)
    assert selected.any()
    assert not (selected & ~mask).any() and not (selected & eos).any() and not selected[scores == 0].any()


def test_keeps_the_count_of_the_completion_length_with_eos_counted():
    scores = torch.arange(1.0, 11.0)[None]
    mask, eos = torch.ones(1, 10, dtype=torch.bool), torch.zeros(1, 10, dtype=torch.bool)
    eos[0, 9] = True
    assert TopRatio(0.2)(scores, mask, eos).nonzero()[:, 1].tolist() == [7, 8]
    assert TopRatio(0.2, eos_selectable=True)(scores, mask, eos).nonzero()[:, 1].tolist() == [8, 9]


@pytest.mark.parametrize(("ratio", "length", "count"), [(0.28, 25, 7), (0.2, 5, 1), (0.2, 6, 2), (0.01, 3, 1)])
def test_count_is_the_exact_ceiling(ratio, length, count):
    scores, off = torch.rand(1, length) + 1, torch.zeros(1, length, dtype=torch.bool)
    assert TopRatio(ratio)(scores, ~off, off).sum() == count


def test_an_earlier_token_wins_a_tie_unless_ties_are_kept():
    scores, off = torch.ones(1, 10), torch.zeros(1, 10, dtype=torch.bool)
    assert TopRatio(0.2)(scores, ~off, off).nonzero()[:, 1].tolist() == [0, 1]
    assert TopRatio(0.2, ties="keep")(scores, ~off, off).all()


def test_kept_ties_are_the_tokens_at_or_above_the_quantile_of_the_group():
    scores, mask, eos = ragged(3)
    threshold = torch.quantile(scores[mask], 0.8)
    released = mask & (scores >= threshold)
    select = TopRatio(0.2, "group", "keep", eos_selectable=True)
    assert threshold > 0 and torch.equal(select(scores, mask, eos), released)


def test_group_scope_takes_from_the_completions_with_the_highest_scores():
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0]])
    off = torch.zeros(2, 4, dtype=torch.bool)
    assert TopRatio(0.5, "group")(scores, ~off, off).tolist() == [[True] * 4, [False] * 4]
    assert TopRatio(0.5)(scores, ~off, off).sum(1).tolist() == [2, 2]


@pytest.mark.parametrize("scope", ["completion", "group"])
@pytest.mark.parametrize("ties", ["deterministic", "keep"])
def test_ratio_one_is_the_whole_completion_mask_eos_and_zero_scores_included(scope, ties):
    scores, mask, eos = ragged()
    assert torch.equal(TopRatio(1.0, scope, ties)(scores * 0, mask, eos), mask)


def test_a_signal_that_did_not_act_or_is_not_a_number_selects_nothing():
    _, mask, eos = ragged()
    for ties in ("deterministic", "keep"):
        assert not TopRatio(0.5, ties=ties)(torch.zeros(mask.shape), mask, eos).any()
        assert not TopRatio(0.5, ties=ties)(torch.full(mask.shape, torch.nan), mask, eos).any()


@pytest.mark.parametrize("ties", ["deterministic", "keep"])
def test_permuting_the_completions_permutes_the_selection(ties):
    scores, mask, eos = ragged()
    order = torch.randperm(len(mask), generator=torch.Generator().manual_seed(1))
    select = TopRatio(0.3, ties=ties)
    assert torch.equal(select(scores, mask, eos)[order], select(scores[order], mask[order], eos[order]))


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1])
def test_a_ratio_outside_the_unit_interval_is_refused(ratio):
    with pytest.raises(ValueError, match="ratio"):
        TopRatio(ratio)


def test_union_is_any_and_refuses_nothing_at_all():
    a, b = torch.tensor([[True, False, False]]), torch.tensor([[False, False, True]])
    assert union([a, b]).tolist() == [[True, False, True]]
    with pytest.raises(ValueError, match="no selections"):
        union([])


def test_statistics_are_fractions_of_the_completion_and_jaccard_indices():
    mask = torch.tensor([[True] * 8 + [False] * 2])
    visual, temporal, none = (torch.zeros_like(mask) for _ in range(3))
    visual[0, :4] = True
    temporal[0, 2:5] = True
    statistics = selection_statistics({"visual": visual, "temporal": temporal, "none": none}, mask)
    assert {name: round(value.item(), 6) for name, value in statistics.items()} == {
        "attribution/visual/selected_fraction": 0.5,
        "attribution/temporal/selected_fraction": 0.375,
        "attribution/none/selected_fraction": 0.0,
        "attribution/union_fraction": 0.625,
        "attribution/overlap/visual_temporal": 0.4,
        "attribution/overlap/visual_none": 0.0,
        "attribution/overlap/temporal_none": 0.0,
    }
    assert selection_statistics({}, mask) == {}
