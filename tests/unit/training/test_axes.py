"""Laws of the ablation axes in the training step."""

import pytest
import torch

from ktr.algorithm.weighting import KeyTokens, RandomTokens, Uniform
from ktr.attribution.distances import distances
from ktr.attribution.selection import TopRatio
from ktr.attribution.signals import EntropySignal, RandomSignal, TemporalSignal, VisualSignal
from ktr.attribution.soft_ranks import SoftRanks
from ktr.attribution.views import Factual
from tests.unit.training.conftest import MakeModule, fit
from tests.unit.training.test_rl_module import count_calls, equal_weights, outputs_of

SIGNALS = {"entropy": EntropySignal(), "visual": VisualSignal(), "temporal": TemporalSignal()}


@pytest.mark.parametrize(
    "weighting",
    [
        KeyTokens({"random": RandomSignal()}, TopRatio(1.0)),
        RandomTokens(SIGNALS, TopRatio(1.0)),
        KeyTokens(SIGNALS, SoftRanks(gamma=0.0), "mean"),
        KeyTokens(SIGNALS, SoftRanks("softmax", gamma=0.0)),
    ],
)
def test_random_tokens_at_ratio_one_and_soft_weights_at_gamma_zero_are_plain_grpo_to_the_bit(
    make_module: MakeModule, weighting: KeyTokens
):
    a, b = make_module(weighting), make_module(Uniform())
    outputs_of(a), outputs_of(b)
    assert equal_weights(a, b)


def test_a_distance_costs_no_pass_and_is_that_of_the_factual_pass_with_gradient(make_module: MakeModule, monkeypatch):
    signals = {"visual": VisualSignal(distance="js"), "temporal": TemporalSignal(distance="hellinger", num_shuffles=2)}
    module = make_module(KeyTokens(signals, TopRatio()), lr=0.0)  # the head stays what it was
    calls = count_calls(monkeypatch, module.scorer, "score_pass")
    (out,) = outputs_of(module, num_steps=1)
    assert len(calls) == 4  # the factual view, the masked one, two shuffles
    for scored in out["output"].to_learn:
        views, weights, factual = scored.views, scored.first.weights, scored.first.factual
        assert not factual.distributions.hidden_ND.requires_grad
        expected = distances(factual.distributions, views[signals["visual"].view].distributions, "js")
        assert torch.equal(weights.scores["visual"], expected) and weights.selections["visual"].any()


def test_a_run_with_a_distance_is_another_run(make_module: MakeModule):
    a = make_module(KeyTokens({"visual": VisualSignal()}, TopRatio()))
    b = make_module(KeyTokens({"visual": VisualSignal(distance="js")}, TopRatio()))
    outputs_of(a), outputs_of(b)
    assert not equal_weights(a, b)


def test_random_controls_repeat_and_ask_for_a_pass_only_where_signals_do(make_module: MakeModule, monkeypatch):
    a, b = (make_module(KeyTokens({"random": RandomSignal()}, TopRatio(0.4))) for _ in range(2))
    calls = count_calls(monkeypatch, a.scorer, "score_pass")
    fit(a), fit(b)
    assert len(calls) == 2 and all(call[1]["views"] == [Factual()] * 3 for call in calls)
    assert equal_weights(a, b)
    control, key_tokens_module = (make_module(kind(SIGNALS, TopRatio())) for kind in (RandomTokens, KeyTokens))
    random, chosen = (outputs_of(module, num_steps=1)[0]["output"] for module in (control, key_tokens_module))
    for a, b in zip(random.to_learn, chosen.to_learn, strict=True):
        assert torch.equal(a.first.weights.weights_GT.sum(1), b.first.weights.weights_GT.sum(1))
