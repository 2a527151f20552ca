"""A rollout about the shuffled video sees what the temporal view scores."""

import pytest
import torch

from ktr.attribution.views import ShuffledFrames
from ktr.scoring.frame_orders import frame_order, order_generator
from ktr.scoring.shuffled_prompt import shuffled_prompt
from ktr.scoring.views import apply_view
from tests.tiny_policy import random_prompt


@pytest.mark.parametrize("granularity", ["temporal_patch", "frame"])
@pytest.mark.parametrize("order", ["random", "reverse", "segmental", "unrestricted"])
@torch.no_grad()
def test_its_features_are_those_of_the_view(policy, granularity, order):
    prompt, view = random_prompt(policy, 1), ShuffledFrames(granularity, order)
    (features_NF,) = policy.encode_video([prompt])
    for seed in (0, 1):
        shuffled = shuffled_prompt(prompt, view, policy.temporal_patch_size, seed)
        expected = apply_view(view, policy, prompt, features_NF, seed)
        (shown_ND,) = policy.encode_video([shuffled])
        torch.testing.assert_close(shown_ND, expected.features_NF, rtol=1e-5, atol=1e-5)
        assert torch.equal(shuffled.input_ids_P, prompt.input_ids_P) and shuffled.question is prompt.question


@pytest.mark.parametrize("granularity", ["temporal_patch", "frame"])
def test_no_seed_leaves_the_order_as_it_was_and_pixels_are_only_moved(policy, granularity):
    prompt = random_prompt(policy, 2)
    orders = [shuffled_prompt(prompt, ShuffledFrames(granularity), 2, seed).pixels_NC for seed in range(40)]
    assert not any(torch.equal(pixels_NC, prompt.pixels_NC) for pixels_NC in orders)
    assert torch.equal(orders[0].flatten().sort().values, prompt.pixels_NC.flatten().sort().values)
    assert torch.equal(orders[3], shuffled_prompt(prompt, ShuffledFrames(granularity), 2, 3).pixels_NC)
    assert not torch.equal(orders[3], orders[4])


def test_an_unrestricted_order_may_be_the_one_they_had():
    orders = [frame_order("unrestricted", 2, order_generator(seed, 0)).tolist() for seed in range(40)]
    assert [0, 1] in orders and [1, 0] in orders
