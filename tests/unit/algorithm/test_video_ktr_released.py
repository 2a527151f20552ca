"""Masks and loss of Video-KTR's released code, against its formulas written plainly."""

import pytest
import torch
from hydra.utils import instantiate

from ktr.algorithm.advantage import GroupAdvantage
from ktr.algorithm.video_ktr_released import GroupQuantile
from ktr.attribution.group_scores import GroupScores
from ktr.attribution.views import MaskedVideo, ShuffledFrames
from ktr.config.composing import compose
from ktr.types import TokenScores
from tests.tiny_policy import IMAGE, VIDEO

G, T, R, BETA = 4, 12, 0.2, 0.04
MASK = torch.arange(T)[None] < torch.tensor([12, 5, 1, 9])[:, None]
EOS = torch.arange(T)[None] == MASK.sum(1, keepdim=True) - 1
MASKED, SHUFFLED = MaskedVideo("drop_compact"), ShuffledFrames("frame", "unrestricted")


@pytest.fixture(scope="module")
def config():
    return compose("train", ["algorithm=video_ktr_released", f"loss.beta={BETA}"])


def drawn(seed: int) -> TokenScores:
    """Garbage off the mask included."""
    generator = torch.Generator().manual_seed(seed)
    return TokenScores(-4 * torch.rand(G, T, generator=generator), 3 * torch.rand(G, T, generator=generator))


def released_mask(factual: TokenScores, masked: TokenScores, shuffled: TokenScores | None) -> torch.Tensor:
    scores = [factual.entropies_GT, factual.logps_GT - masked.logps_GT]
    scores += [] if shuffled is None else [factual.logps_GT - shuffled.logps_GT]
    union_GT = torch.zeros(G, T, dtype=torch.bool)
    for s_GT in scores:
        union_GT |= (s_GT >= torch.quantile(s_GT[MASK], 1 - R)) & MASK
    return union_GT


def released_loss(logps, old, ref, rewards, mask_GT) -> torch.Tensor:
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    kl = torch.exp(ref - logps) - (ref - logps) - 1
    per_token = -(torch.exp(logps - old) * advantages[:, None] - BETA * kl)
    counts = mask_GT.sum(1)
    sums = (per_token * mask_GT).sum(1)
    return torch.stack([s / n if n else s for s, n in zip(sums, counts, strict=True)]).mean()  # 0, where it has NaN


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("data_type", ["video", "image"])
def test_masks_loss_and_gradient(config, seed, data_type):
    weighting, loss = instantiate(config.weighting), instantiate(config.loss)
    factual, masked, shuffled = drawn(seed), drawn(seed + 100), drawn(seed + 200)
    assert set(weighting.required_views([VIDEO])) == {MASKED, SHUFFLED}
    assert weighting.required_views([IMAGE]) == (MASKED,)
    views = {MASKED: masked} | ({SHUFFLED: shuffled} if data_type == "video" else {})
    weights = weighting(GroupScores(factual, views, MASK, EOS))
    expected = released_mask(factual, masked, shuffled if data_type == "video" else None)
    assert torch.equal(weights.weights_GT, expected.float())

    rewards, ref = torch.tensor([0.0, 1.0, 2.0, 1.2]), drawn(seed + 300).logps_GT
    gradients = []
    for of in (
        lambda x: (
            loss(x, factual.logps_GT, ref, GroupAdvantage()(rewards), MASK, weights.weights_GT, G, int(MASK.sum())).loss
        ),
        lambda x: released_loss(x, factual.logps_GT, ref, rewards, expected),
    ):
        logps = factual.logps_GT.clone().requires_grad_()
        value = of(logps)
        gradients.append((value.detach(), torch.autograd.grad(value, logps)[0]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_a_permutation_that_moves_nothing_ties_everywhere_and_selects_all(config):
    """The released shuffle may be the identity: each change is then 0, and 0 is at the quantile."""
    factual = drawn(0)
    views = {MASKED: drawn(1), SHUFFLED: factual}
    weights = instantiate(config.weighting)(GroupScores(factual, views, MASK, EOS))
    assert torch.equal(weights.selections["temporal"], MASK)


def test_where_no_token_becomes_less_likely_the_quantile_still_selects():
    scores_GT = -torch.rand(G, T) - 0.1
    selected_GT = GroupQuantile(0.2)(scores_GT, MASK, EOS)
    assert torch.equal(selected_GT, (scores_GT >= scores_GT[MASK].quantile(0.8)) & MASK) and selected_GT.any()


def test_a_sequence_without_a_selected_token_adds_nothing_and_no_nan(config):
    loss = instantiate(config.loss)
    weights_GT = MASK.float()
    weights_GT[1] = 0
    logps = drawn(3).logps_GT.requires_grad_()
    value = loss(logps, logps.detach(), drawn(4).logps_GT, torch.randn(G), MASK, weights_GT, G, int(MASK.sum())).loss
    (gradient,) = torch.autograd.grad(value, logps)
    assert value.isfinite() and gradient.isfinite().all() and not gradient[1].any()


def test_an_image_without_any_acting_signal_selects_nothing():
    weighting = instantiate(
        compose(
            "train",
            [
                "algorithm=video_ktr_released",
                "attribution.signals.visual=null",
                "attribution.signals.entropy=null",
            ],
        ).weighting
    )
    assert not weighting(GroupScores(drawn(0), {}, MASK, EOS)).weights_GT.any()


def test_signals_can_be_combined_by_their_mean():
    weighting = instantiate(compose("train", ["algorithm=video_ktr_released", "weighting.combine=mean"]).weighting)
    weights = weighting(GroupScores(drawn(0), {MASKED: drawn(1), SHUFFLED: drawn(2)}, MASK, EOS))
    assert torch.equal(weights.weights_GT, torch.stack([*weights.selections.values()]).float().mean(0))


def test_the_whole_composition_is_that_of_the_release(config):
    assert config.attribution.signals.visual.shift == config.attribution.signals.temporal.shift == "signed"
    assert type(instantiate(config.weighting).selection) is type(instantiate(config.selection)) is GroupQuantile
    assert (config.loss.kl_scope, config.loss.reduction.denominator) == ("selected", "selected")
    released = compose("train", ["+experiment=video_ktr_released_16f"])
    assert released.reward.rewards.length.count == "selected"
