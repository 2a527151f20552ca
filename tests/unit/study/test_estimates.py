"""Signal and noise against a policy whose expected gradient is known in closed form."""

from itertools import product

import numpy as np
import pytest
import torch

from ktr.errors import ConfigError, MissingData
from ktr.study.estimates import MIN_BATCHES, Estimator, require_batches
from ktr.study.gradients import inner_products

PARTS = ["all", "a", "b"]
SIZE = 16  # groups of a batch
P, Q = 0.7, 0.4  # two words that are 1 with these chances; the reward is a + b / 2
# Weights: one that both words share, and one of each word's own. ∂logp of a word is (word − its chance) along its row.
ALONG = {"a": np.array([1.0, 1.0, 0.0]), "b": np.array([1.0, 0.0, 1.0])}


def gradients_of(a, b) -> np.ndarray:
    """The gradient of all and of each word, for outcomes of the two; the baseline is the expected reward."""
    advantage = (a - P) + (b - Q) / 2
    of_a, of_b = advantage * (a - P), advantage * (b - Q)
    parts = np.stack([np.multiply.outer(of_a, ALONG["a"]), np.multiply.outer(of_b, ALONG["b"])])
    return np.concatenate([parts.sum(0, keepdims=True), parts])


def truth(part: str) -> dict[str, float]:
    outcomes = list(product((0.0, 1.0), repeat=2))
    chances = np.array([(P if a else 1 - P) * (Q if b else 1 - Q) for a, b in outcomes])
    gradients = np.stack([gradients_of(a, b) for a, b in outcomes])
    means = np.einsum("o,opd->pd", chances, gradients)
    traces = np.einsum("o,opd->p", chances, gradients**2) - (means**2).sum(1)
    at, squared = PARTS.index(part), (means**2).sum(1)
    return {
        "signal": means[at] @ means[0] / squared[0],
        "noise": traces[at] / traces[0],
        "signal_to_noise": squared[at] / traces[at],
        "groups": traces[at] / squared[at],
        "lost": ((means[0] - means[at]) ** 2).sum() / squared[0],
        "cosine": means[at] @ means[0] / np.sqrt(squared[at] * squared[0]),
    }


def estimator(seed: int, num_batches: int = 40) -> Estimator:
    rng = np.random.default_rng(seed)
    a, b = (rng.random((num_batches, SIZE)) < chance for chance in (P, Q))
    means = gradients_of(a.astype(float), b.astype(float)).mean(2)
    return Estimator(PARTS, inner_products(torch.tensor(means)), SIZE, seed)


def test_expectations_are_those_of_the_closed_form():
    """E g of the words is p (1 − p) and q (1 − q) / 2 along their rows."""
    expected_a, expected_b = P * (1 - P) * ALONG["a"], Q * (1 - Q) / 2 * ALONG["b"]
    whole = expected_a + expected_b
    assert truth("a")["signal"] == pytest.approx(expected_a @ whole / (whole @ whole))
    assert truth("a")["signal"] + truth("b")["signal"] == pytest.approx(1)


ESTIMATORS = [estimator(seed) for seed in range(30)]


@pytest.mark.parametrize("part", ["a", "b"])
def test_the_truth_lies_within_the_intervals_as_often_as_they_say(part: str):
    found, true = [one.of({part: 1.0}) for one in ESTIMATORS], truth(part)
    for measure, value in true.items():
        estimates = [getattr(of, measure) for of in found]
        assert sum(e.low <= value <= e.high for e in estimates) >= 0.8 * len(estimates), measure
        assert np.median([e.value for e in estimates]) == pytest.approx(value, rel=0.15), measure


def test_the_squared_expectation_has_no_bias_from_noise():
    """A part whose expectation is zero has a squared norm around zero, whatever its noise."""
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(200):
        drawn = torch.tensor(rng.normal(size=(1, MIN_BATCHES, 50)))
        squares.append(Estimator(["all"], inner_products(drawn), 1).whole().signal.value)
    assert abs(np.mean(squares)) < 3 * np.std(squares) / np.sqrt(len(squares))


def test_kinds_add_up_and_the_whole_is_one():
    found = ESTIMATORS[0]
    assert found.of({"a": 1.0}).signal.value + found.of({"b": 1.0}).signal.value == pytest.approx(1)
    whole = found.of({"all": 1.0})
    assert (whole.signal.value, whole.noise.value, whole.cosine.value) == pytest.approx((1, 1, 1))
    assert whole.lost.value == pytest.approx(0)
    assert found.of({"all": 1.0, "b": -1.0}).signal.value == pytest.approx(found.of({"a": 1.0}).signal.value)


def test_shares_of_a_whole_that_may_be_zero_have_no_interval():
    drawn = torch.tensor(np.random.default_rng(1).normal(size=(2, MIN_BATCHES, 50)) + 0.05)
    found = Estimator(["all", "a"], inner_products(drawn), 4)
    assert not found.whole().is_told
    assert not np.isfinite(found.of({"a": 1.0}).signal.low)


def test_a_metric_scales_each_coordinate():
    drawn = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.0])
    expected = torch.einsum("pbd,qcd,d->pbqc", drawn, drawn, scale)
    assert torch.allclose(torch.tensor(inner_products(drawn, scale)).float(), expected, atol=1e-5)


def test_no_gradient_at_all_is_said():
    with pytest.raises(MissingData, match=r"every group has completions of equal reward, .*sampling\.temperature"):
        Estimator(["all"], np.zeros((1, MIN_BATCHES, 1, MIN_BATCHES)), 4)


def test_too_few_rollouts_for_an_interval_say_how_many_are_needed():
    with pytest.raises(ConfigError, match=r"num_groups=100: an interval needs 8 batches of 16 .*give 128 at least"):
        require_batches(100, 16)
    assert require_batches(640, 16) == 40
