"""A shuffled video is never in the order it had."""

import pytest
import torch

from ktr.scoring.frame_orders import frame_order, order_generator


@pytest.mark.parametrize("order", ["random", "reverse", "segmental"])
@pytest.mark.parametrize("num_frames", [2, 3, 4, 8, 33])
def test_an_order_is_a_permutation_and_not_the_identity(order, num_frames):
    for seed in range(50):
        permutation = frame_order(order, num_frames, order_generator(seed, 0))
        assert permutation.sort().values.tolist() == list(range(num_frames))
        assert permutation.tolist() != list(range(num_frames))


def test_segments_keep_the_order_inside_them():
    permutation = frame_order("segmental", 16, order_generator(1, 0)).view(4, 4)
    assert (permutation.diff(dim=1) == 1).all()


def test_a_seed_and_draw_fix_the_order_and_other_draws_differ():
    first = frame_order("random", 16, order_generator(5, 0))
    assert torch.equal(first, frame_order("random", 16, order_generator(5, 0)))
    assert not torch.equal(first, frame_order("random", 16, order_generator(5, 1)))


def test_a_single_frame_has_no_other_order():
    with pytest.raises(ValueError, match="no order to change"):
        frame_order("random", 1, order_generator(0, 0))
