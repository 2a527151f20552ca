"""Sampling draws from the distribution it says, and never what is banned."""

import pytest
import torch

from ktr.rollout.engine import SamplingParams
from ktr.rollout.transformers.sampling import draw, sampled_distribution

NONE = torch.tensor([], dtype=torch.long)


def grid_of_uniforms(n: int) -> torch.Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def shares(logps_V: torch.Tensor, n: int = 10_000, **kwargs) -> torch.Tensor:
    """How often each word is drawn over an even grid of uniforms: its probability, to 1/n."""
    drawn = draw(logps_V.expand(n, -1), uniforms_N=grid_of_uniforms(n), **kwargs)
    return torch.bincount(drawn, minlength=len(logps_V)).double() / n


def test_shares_are_the_probabilities():
    logps = sampled_distribution(torch.randn(1, 17), NONE, temperature=1.0)[0]
    assert torch.allclose(shares(logps, temperature=1.0, top_p=1.0), logps.double().exp(), atol=2e-4)


def test_temperature_divides_the_logits():
    logits = torch.randn(1, 17)
    assert torch.allclose(sampled_distribution(logits, NONE, 0.5), (2 * logits).log_softmax(-1))


def test_banned_ids_have_no_share_and_the_rest_is_renormalised():
    logits = torch.randn(1, 6)
    logps = sampled_distribution(logits, torch.tensor([0, 5]), temperature=1.0)[0]
    assert torch.allclose(logps[1:5], logits[0, 1:5].log_softmax(-1))
    drawn = shares(logps, temperature=1.0, top_p=1.0)
    assert drawn[0] == 0 and drawn[5] == 0


def test_extreme_uniforms_stay_on_words_with_a_share():
    logps = sampled_distribution(torch.randn(1, 6), torch.tensor([0, 5]), temperature=1.0)
    uniforms = torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64)
    assert draw(logps.expand(2, -1), 1.0, 1.0, uniforms).tolist() == [1, 4]


@pytest.mark.parametrize("top_p, kept", [(0.49, [1]), (0.51, [1, 3]), (0.79, [1, 3]), (0.81, [0, 1, 3])])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    logps = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()
    drawn = shares(logps, temperature=1.0, top_p=top_p)
    assert torch.where(drawn > 0)[0].tolist() == kept
    expected = logps.exp()[kept] / logps.exp()[kept].sum()
    assert torch.allclose(drawn[kept].float(), expected, atol=1e-3)


def test_greedy_is_the_most_likely_word_whatever_the_uniform():
    logps = torch.randn(4, 9).log_softmax(-1)
    assert torch.equal(draw(logps, 0.0, 1.0, torch.rand(4).double()), logps.argmax(-1))


@pytest.mark.parametrize(
    "settings", [{"num_completions": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="sampling needs"):
        SamplingParams(**{"num_completions": 1, "max_tokens": 4} | settings)
