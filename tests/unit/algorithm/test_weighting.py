"""Laws of the token weights."""

import torch

from ktr.algorithm.weighting import KeyTokens, Uniform
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, TemporalSignal, VisualSignal
from ktr.attribution.views import MaskedVideo, ShuffledFrames
from ktr.types import TokenScores


def token_scores(seed: int, G: int = 4, T: int = 15) -> TokenScores:
    """Garbage off the mask included: weights must not see it."""
    generator = torch.Generator().manual_seed(seed)
    return TokenScores(-5 * torch.rand(G, T, generator=generator), 5 * torch.rand(G, T, generator=generator))


MASK = torch.arange(15)[None] < torch.tensor([15, 4, 9, 1])[:, None]
EOS = MASK & ~torch.cat([MASK[:, 1:], torch.zeros(4, 1, dtype=torch.bool)], 1)
VIEWS = {MaskedVideo(): token_scores(1), ShuffledFrames(): token_scores(2)}


def vet(ratio: float = 0.2) -> KeyTokens:
    signals = {"entropy": EntropySignal(), "visual": VisualSignal(), "temporal": TemporalSignal()}
    return KeyTokens(signals, TopRatio(ratio))


def test_weights_are_the_union_of_the_signals_and_vanish_off_the_completion_mask():
    weights = vet()(token_scores(0), VIEWS, MASK, EOS)
    union = weights.selections["entropy"] | weights.selections["visual"] | weights.selections["temporal"]
    assert union.any() and torch.equal(weights.weights_GT, union.float())
    assert not weights.weights_GT[~MASK].any() and not weights.weights_GT[EOS].any()
    assert all(not scores[~MASK].any() for scores in weights.scores.values())
    assert torch.equal(Uniform()(token_scores(0), {}, MASK, EOS).weights_GT, MASK.float())


def test_each_signal_selects_on_its_own():
    together = vet()(token_scores(0), VIEWS, MASK, EOS)
    for name, signal in vet().signals.items():
        alone = KeyTokens({name: signal}, TopRatio(0.2))(token_scores(0), VIEWS, MASK, EOS)
        assert torch.equal(alone.selections[name], together.selections[name])


def test_ratio_one_and_no_signal_are_uniform_weights_bitwise():
    uniform = Uniform()(token_scores(0), {}, MASK, EOS).weights_GT
    assert torch.equal(vet(1.0)(token_scores(0), VIEWS, MASK, EOS).weights_GT, uniform)
    off = KeyTokens({"entropy": None, "visual": None}, TopRatio(0.2))
    assert off.required_views("video") == () and off(token_scores(0), {}, MASK, EOS).selections == {}
    assert torch.equal(off(token_scores(0), {}, MASK, EOS).weights_GT, uniform)


def test_required_views_are_each_asked_for_once_and_an_image_has_no_shuffle():
    signals = {"a": VisualSignal(), "b": VisualSignal(shift="signed"), "t": TemporalSignal(num_shuffles=2), "e": None}
    weighting = KeyTokens(signals, TopRatio())
    assert weighting.required_views("video") == (MaskedVideo(), ShuffledFrames(), ShuffledFrames(draw=1))
    assert weighting.required_views("image") == (MaskedVideo(),)


def test_an_order_that_changes_nothing_selects_nothing():
    factual = token_scores(0)
    weights = vet()(factual, {**VIEWS, ShuffledFrames(): factual}, MASK, EOS)
    assert not weights.scores["temporal"].any() and not weights.selections["temporal"].any()


def test_permuting_the_completions_permutes_the_weights():
    order = torch.tensor([2, 0, 3, 1])

    def permuted(scores: TokenScores) -> TokenScores:
        return TokenScores(scores.logps_GT[order], scores.entropies_GT[order])

    weights = vet()(token_scores(0), VIEWS, MASK, EOS).weights_GT
    views = {view: permuted(scores) for view, scores in VIEWS.items()}
    assert torch.equal(vet()(permuted(token_scores(0)), views, MASK[order], EOS[order]).weights_GT, weights[order])


def test_weights_and_scores_carry_no_gradient():
    factual = token_scores(0)
    factual = TokenScores(factual.logps_GT.requires_grad_(), factual.entropies_GT.requires_grad_())
    weights = vet()(factual, VIEWS, MASK, EOS)
    assert not weights.weights_GT.requires_grad and not any(s.requires_grad for s in weights.scores.values())
