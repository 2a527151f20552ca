"""Laws of the sequence's ratio (GSPO), and of the clip, the penalty and the correction with it."""

import pytest
import torch

from ktr.algorithm.advantage import CentredAdvantage, GroupAdvantage
from ktr.algorithm.loss import ClippedSurrogate
from ktr.algorithm.ratios import SequenceRatio, TokenRatio
from tests.unit.algorithm.test_loss import Batch


def gradient(batch: Batch, loss: ClippedSurrogate, **changed) -> torch.Tensor:
    logps = changed.pop("logps", batch.logps).clone().requires_grad_()
    return torch.autograd.grad(batch.loss(loss, logps, **changed).loss, logps)[0]


def gspo(batch: Batch, low: float, high: float, logps: torch.Tensor) -> torch.Tensor:
    """−(1/G) Σ min(s A, clip(s) A), as the paper writes it, one sequence after the other."""
    total = logps.new_zeros(())
    for i, mask in enumerate(batch.mask):
        s = (logps[i] - batch.old[i])[mask].mean().exp()
        total = total - torch.minimum(s * batch.advantages[i], s.clamp(1 - low, 1 + high) * batch.advantages[i])
    return total / len(batch.mask)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (3e-4, 4e-4), (10.0, 10.0)])
def test_loss_and_gradient_are_those_of_the_written_formula(low: float, high: float):
    batch = Batch()
    every = batch.mask.double()
    loss = ClippedSurrogate(low, high, ratio=SequenceRatio())
    logps = batch.logps.clone().requires_grad_()
    written = gspo(batch, low, high, logps)
    torch.testing.assert_close(batch.loss(loss, token_weights_GT=every).loss, written.detach())
    torch.testing.assert_close(
        gradient(batch, loss, token_weights_GT=every), torch.autograd.grad(written, logps)[0] * batch.mask
    )


def test_at_ratio_1_it_is_grpo_with_a_mean_over_each_completion():
    batch = Batch()
    of = [ClippedSurrogate(ratio=ratio) for ratio in (SequenceRatio(), TokenRatio())]
    one, other = (gradient(batch, loss, logps=batch.old) for loss in of)
    assert torch.equal(one, other)


def test_a_completion_of_one_token_has_the_token_s_ratio():
    batch = Batch()
    logps, old = (torch.where(batch.mask, x, 0.0) for x in (batch.logps, batch.old))
    sequence, token = (ratio(logps, old, batch.mask)[3, 0] for ratio in (SequenceRatio(), TokenRatio()))
    torch.testing.assert_close(sequence, token)


def test_a_clipped_sequence_has_no_gradient_at_any_token_and_counts_as_clipped():
    batch = Batch()
    batch.advantages = batch.advantages.abs()
    logps = torch.where(batch.mask, batch.old + 0.5, 0.0)
    loss = ClippedSurrogate(ratio=SequenceRatio())
    assert not gradient(batch, loss, logps=logps).any()
    assert batch.loss(loss, logps).clip_fraction == 1


def test_deviations_that_cancel_within_a_sequence_are_not_clipped():
    batch = Batch(T=4)
    batch.mask[:] = True
    apart = torch.tensor([2.0, -2.0, 1.0, -1.0], dtype=torch.float64)
    loss = ClippedSurrogate(3e-4, 4e-4, ratio=SequenceRatio())
    assert batch.loss(loss, batch.old + apart).clip_fraction == 0


def test_weights_penalty_and_correction_act_with_it():
    batch = Batch()
    loss = ClippedSurrogate(ratio=SequenceRatio(), beta=0.1)
    assert not gradient(batch, ClippedSurrogate(ratio=SequenceRatio()))[batch.weights == 0].any()
    assert batch.loss(loss).kl == batch.loss(ClippedSurrogate(beta=0.1)).kl > 0
    twice = batch.loss(loss, importance_GT=torch.full_like(batch.logps, 2.0))
    torch.testing.assert_close(twice.policy_loss, 2 * batch.loss(loss).policy_loss)


def test_what_stands_off_the_mask_changes_nothing():
    batch = Batch()
    loss = ClippedSurrogate(ratio=SequenceRatio())
    padded = torch.where(batch.mask, batch.logps, -torch.inf)
    assert batch.loss(loss, padded).loss == batch.loss(loss).loss
    assert torch.equal(gradient(batch, loss, logps=padded), gradient(batch, loss))


def test_the_centred_advantage_is_the_standardised_one_times_its_deviation():
    rewards = torch.tensor([0.0, 1.0, 1.0, 0.3, 2.5], dtype=torch.float64)
    centred, standardised = CentredAdvantage()(rewards), GroupAdvantage(eps=1e-4)(rewards)
    torch.testing.assert_close(centred, standardised * (rewards.std() + 1e-4))
    torch.testing.assert_close(CentredAdvantage()(3 * rewards + 1), 3 * centred)  # its size is the reward's
    equal = torch.full((3,), 0.1)
    assert not CentredAdvantage()(equal).any() and not CentredAdvantage()(equal[:1]).any()
