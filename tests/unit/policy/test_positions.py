"""M-RoPE positions follow the original rule: text goes on after the largest position of the vision block."""

import pytest
import torch

from ktr.policy.qwen2_5_vl.positions import mrope_positions

VIDEO = 9


def prompt(num_before: int, num_visual: int, num_after: int) -> torch.Tensor:
    return torch.tensor([1] * num_before + [VIDEO] * num_visual + [2] * num_after)


def test_positions_of_a_small_video_by_hand():
    # two text tokens, 2 temporal patches of 1 x 2 merged tokens one second (2 positions) apart, one text token
    positions = mrope_positions(prompt(2, 4, 1), VIDEO, (2, 2, 4), 2, seconds_per_patch=1.0, tokens_per_second=2)
    assert positions.tolist() == [
        [0, 1, 2, 2, 4, 4, 5],
        [0, 1, 2, 2, 2, 2, 5],
        [0, 1, 2, 3, 2, 3, 5],
    ]


def test_text_goes_on_after_the_largest_coordinate_whichever_axis_holds_it():
    wide = mrope_positions(prompt(1, 10, 1), VIDEO, (1, 2, 20), 2, 0.0, 2)
    long = mrope_positions(prompt(1, 10, 1), VIDEO, (10, 2, 2), 2, 1.0, 2)
    assert wide[:, -1].tolist() == [11] * 3
    assert long[:, -1].tolist() == [1 + 9 * 2 + 1] * 3


def test_fractions_of_a_position_are_rounded_down():
    positions = mrope_positions(prompt(0, 3, 0), VIDEO, (3, 2, 2), 2, seconds_per_patch=0.7, tokens_per_second=2)
    assert positions[0].tolist() == [0, 1, 2]  # 0, 1.4, 2.8


def test_an_image_has_one_time_so_text_goes_on_after_its_longer_side():
    positions = mrope_positions(prompt(2, 6, 2), VIDEO, (1, 4, 6), 2, seconds_per_patch=0.0, tokens_per_second=2)
    assert positions[:, -2:].tolist() == [[5, 6]] * 3


@pytest.mark.parametrize("ids", [prompt(1, 3, 1), torch.tensor([VIDEO, 1, VIDEO, VIDEO, VIDEO])])
def test_placeholders_that_do_not_fit_the_grid_are_refused(ids):
    with pytest.raises(ValueError, match="expected 4 visual tokens in one block"):
        mrope_positions(ids, VIDEO, (2, 2, 4), 2, 1.0, 2)
