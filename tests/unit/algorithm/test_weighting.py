"""Laws of the token weights."""

from dataclasses import replace

import pytest
import torch

from ktr.algorithm.weighting import KeyTokens, RandomTokens, RestTokens, Uniform
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.selection import Selection, TopRatio
from ktr.attribution.signals import EntropySignal, RandomSignal, TemporalSignal, VisualSignal
from ktr.attribution.soft_ranks import SoftRanks
from ktr.attribution.views import MaskedVideo, ShuffledFrames
from ktr.types import TokenScores
from tests.tiny_policy import IMAGE, VIDEO


def token_scores(seed: int, G: int = 4, T: int = 15) -> TokenScores:
    """Garbage off the mask included: weights must not see it."""
    generator = torch.Generator().manual_seed(seed)
    return TokenScores(-5 * torch.rand(G, T, generator=generator), 5 * torch.rand(G, T, generator=generator))


MASK = torch.arange(15)[None] < torch.tensor([15, 4, 9, 1])[:, None]
EOS = MASK & ~torch.cat([MASK[:, 1:], torch.zeros(4, 1, dtype=torch.bool)], 1)
VIEWS = {MaskedVideo(): token_scores(1), ShuffledFrames(): token_scores(2)}
SEEDS = (11, 12, 13, 14)
SIGNALS = {"entropy": EntropySignal(), "visual": VisualSignal(), "temporal": TemporalSignal()}
GROUP = GroupScores(token_scores(0), VIEWS, MASK, EOS, SEEDS)
SELECTIONS = [
    TopRatio(0.2),
    TopRatio(0.3, eos_selectable=True),
    *(SoftRanks(curve, 1.0, 5.0) for curve in ("sigmoid", "linear", "exponential", "softmax")),
]


def vet(ratio: float = 0.2) -> KeyTokens:
    return KeyTokens(SIGNALS, TopRatio(ratio))


def test_weights_are_the_union_of_the_signals_and_vanish_off_the_completion_mask():
    weights = vet()(GROUP)
    union = weights.selections["entropy"] | weights.selections["visual"] | weights.selections["temporal"]
    assert union.any() and torch.equal(weights.weights_GT, union.float())
    assert not weights.weights_GT[~MASK].any() and not weights.weights_GT[EOS].any()
    assert all(not scores[~MASK].any() for scores in weights.scores.values())
    assert torch.equal(Uniform()(GROUP).weights_GT, MASK.float())


def test_each_signal_selects_on_its_own():
    together = vet()(GROUP)
    for name, signal in vet().signals.items():
        alone = KeyTokens({name: signal}, TopRatio(0.2))(GROUP)
        assert torch.equal(alone.selections[name], together.selections[name])


def test_ratio_one_and_no_signal_are_uniform_weights_bitwise():
    uniform = Uniform()(GROUP).weights_GT
    assert torch.equal(vet(1.0)(GROUP).weights_GT, uniform)
    off = KeyTokens({"entropy": None, "visual": None}, TopRatio(0.2))
    assert off.required_views([VIDEO]) == () and off(GROUP).selections == {}
    assert torch.equal(off(GROUP).weights_GT, uniform)


def test_required_views_are_each_asked_for_once_and_an_image_has_no_shuffle():
    signals = {"a": VisualSignal(), "b": VisualSignal(shift="signed"), "t": TemporalSignal(num_shuffles=2), "e": None}
    weighting = KeyTokens(signals, TopRatio())
    assert weighting.required_views([VIDEO]) == (MaskedVideo(), ShuffledFrames(), ShuffledFrames(draw=1))
    assert weighting.required_views([IMAGE]) == (MaskedVideo(),)


def test_an_order_that_changes_nothing_selects_nothing():
    weights = vet()(replace(GROUP, views={**VIEWS, ShuffledFrames(): GROUP.factual}))
    assert not weights.scores["temporal"].any() and not weights.selections["temporal"].any()


@pytest.mark.parametrize("selection", SELECTIONS[2:])
def test_soft_weights_are_the_largest_or_the_mean_over_the_signals(selection: SoftRanks):
    alone = [KeyTokens({name: s}, selection)(GROUP) for name, s in SIGNALS.items()]
    each = torch.stack([weights.weights_GT for weights in alone])
    largest = KeyTokens(SIGNALS, selection)(GROUP)
    mean = KeyTokens(SIGNALS, selection, "mean")(GROUP)
    assert torch.equal(largest.weights_GT, each.amax(0)) and torch.equal(mean.weights_GT, each.mean(0))
    torch.testing.assert_close(mean.weights_GT.sum(), MASK.sum().float())
    assert torch.equal(mean.selections["visual"], alone[1].weights_GT > 1)
    assert not largest.weights_GT[~MASK].any() and not mean.weights_GT[~MASK].any()


def test_the_mean_of_selections_is_the_share_of_the_signals_that_select():
    weights = KeyTokens(SIGNALS, TopRatio(0.4), "mean")(GROUP)
    votes = torch.stack(list(weights.selections.values())).float().mean(0)
    assert torch.equal(weights.weights_GT, votes) and len(votes.unique()) > 2
    with pytest.raises(Exception, match="median"):
        KeyTokens(SIGNALS, TopRatio(), "median")  # type: ignore[arg-type]


@pytest.mark.parametrize("combine", ["max", "mean"])
@pytest.mark.parametrize("curve", ["sigmoid", "linear", "exponential", "softmax"])
def test_soft_weights_at_gamma_zero_are_uniform_bitwise(curve, combine):
    weights = KeyTokens(SIGNALS, SoftRanks(curve, gamma=0.0), combine)(GROUP)
    assert torch.equal(weights.weights_GT, MASK.float())


@pytest.mark.parametrize("selection", SELECTIONS)
def test_random_tokens_have_the_weights_of_the_key_tokens_of_each_completion_at_random_places(selection: Selection):
    key = KeyTokens(SIGNALS, selection)(GROUP).weights_GT
    control = RandomTokens(SIGNALS, selection)
    random = control(GROUP).weights_GT
    assert torch.equal(random.sort(dim=1).values, key.sort(dim=1).values) and not torch.equal(random, key)
    assert not random[~MASK].any()
    if not selection.eos_selectable:
        assert torch.equal(random[EOS], key[EOS])
    assert control.required_views([VIDEO]) == (MaskedVideo(), ShuffledFrames())
    other = control(replace(GROUP, seeds=(1, 2, 3, 4))).weights_GT
    assert not torch.equal(random, other)


def test_random_tokens_fall_on_every_token_alike():
    """Over many draws each of the 14 selectable tokens of the first completion gets its share of the 7 selected."""
    control, total = RandomTokens({"entropy": EntropySignal()}, TopRatio(0.45)), torch.zeros(15)
    for seed in range(400):
        total += control(replace(GROUP, seeds=(seed, 1, 2, 3))).weights_GT[0]
    assert total[14] == 0 and total.sum() == 7 * 400
    assert (total[:14] / 400 - 0.5).abs().max() < 4 * (0.25 / 400) ** 0.5


@pytest.mark.parametrize("control", [RandomTokens(SIGNALS, TopRatio(1.0)), RandomTokens({}, TopRatio(0.2)),
                                     KeyTokens({"random": RandomSignal()}, TopRatio(1.0))])  # fmt: skip
def test_a_random_mask_of_ratio_one_is_uniform_bitwise(control: KeyTokens):
    assert torch.equal(control(GROUP).weights_GT, MASK.float())


def test_the_random_signal_selects_the_ratio():
    weights = KeyTokens({"random": RandomSignal()}, TopRatio(0.2))(GROUP).weights_GT
    assert weights.sum(1).tolist() == [3, 1, 2, 0]  # ⌈0.2 · 15⌉, …; the last completion is nothing but EOS


@pytest.mark.parametrize(
    "weighting",
    [
        vet(),
        RandomTokens(SIGNALS, TopRatio()),
        RandomTokens(SIGNALS, TopRatio(), within="position"),
        RestTokens(SIGNALS, TopRatio()),
        KeyTokens(SIGNALS, SoftRanks(), "mean"),
    ],
)
def test_permuting_the_completions_permutes_the_weights(weighting: KeyTokens):
    order = torch.tensor([2, 0, 3, 1])

    def permuted(scores: TokenScores) -> TokenScores:
        return TokenScores(scores.logps_GT[order], scores.entropies_GT[order])

    views = {view: permuted(scores) for view, scores in VIEWS.items()}
    seeds = tuple(SEEDS[i] for i in order)
    moved = GroupScores(permuted(token_scores(0)), views, MASK[order], EOS[order], seeds)
    assert torch.equal(weighting(moved).weights_GT, weighting(GROUP).weights_GT[order])


def test_weights_and_scores_carry_no_gradient():
    factual = token_scores(0)
    factual = TokenScores(factual.logps_GT.requires_grad_(), factual.entropies_GT.requires_grad_())
    weights = vet()(replace(GROUP, factual=factual))
    assert not weights.weights_GT.requires_grad and not any(s.requires_grad for s in weights.scores.values())


@pytest.mark.parametrize("selection", SELECTIONS)
def test_random_tokens_within_positions_leave_each_position_as_many(selection: Selection):
    key = KeyTokens(SIGNALS, selection)(GROUP).weights_GT
    random = RandomTokens(SIGNALS, selection, within="position")(GROUP).weights_GT
    torch.testing.assert_close(random.sort(dim=0).values, key.sort(dim=0).values)
    assert not torch.equal(random, key) and not random[~MASK].any()
    if not selection.eos_selectable:
        assert torch.equal(random[EOS], key[EOS])
    with pytest.raises(Exception, match="sentence"):
        RandomTokens(SIGNALS, selection, within="sentence")  # type: ignore[arg-type]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_rest_and_the_key_tokens_are_all_tokens(selection: Selection):
    rest = RestTokens(SIGNALS, selection)(GROUP).weights_GT
    torch.testing.assert_close(rest + KeyTokens(SIGNALS, selection)(GROUP).weights_GT, MASK.float())
    assert not rest[~MASK].any()


def test_of_nothing_chosen_there_is_no_rest():
    with pytest.raises(ValueError, match="without a signal every token counts"):
        RestTokens({"entropy": None}, TopRatio())
