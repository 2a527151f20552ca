"""M-RoPE positions follow the original rule: text goes on after the largest position of the vision block."""

import pytest
import torch

from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.shapes.tiny_model import build_model
from ktr.types import Medium


def prompt(num_before: int, num_visual: int, num_after: int) -> torch.Tensor:
    return torch.tensor([False] * num_before + [True] * num_visual + [False] * num_after)


def test_positions_of_a_small_video_by_hand():
    # two text tokens, 2 temporal patches of 1 x 2 merged tokens one second (2 positions) apart, one text token
    positions = mrope_positions(prompt(2, 4, 1), [Medium("video", (2, 2, 4), 1.0)], 2, tokens_per_second=2)
    assert positions.tolist() == [
        [0, 1, 2, 2, 4, 4, 5],
        [0, 1, 2, 2, 2, 2, 5],
        [0, 1, 2, 3, 2, 3, 5],
    ]


def test_text_goes_on_after_the_largest_coordinate_whichever_axis_holds_it():
    wide = mrope_positions(prompt(1, 10, 1), [Medium("video", (1, 2, 20), 0.0)], 2, tokens_per_second=2)
    long = mrope_positions(prompt(1, 10, 1), [Medium("video", (10, 2, 2), 1.0)], 2, tokens_per_second=2)
    assert wide[:, -1].tolist() == [11] * 3
    assert long[:, -1].tolist() == [1 + 9 * 2 + 1] * 3


def test_fractions_of_a_position_are_rounded_down():
    positions = mrope_positions(prompt(0, 3, 0), [Medium("video", (3, 2, 2), 0.7)], 2, tokens_per_second=2)
    assert positions[0].tolist() == [0, 1, 2]  # 0, 1.4, 2.8


def test_an_image_has_one_time_so_text_goes_on_after_its_longer_side():
    positions = mrope_positions(prompt(2, 6, 2), [Medium("video", (1, 4, 6), 0.0)], 2, tokens_per_second=2)
    assert positions[:, -2:].tolist() == [[5, 6]] * 3


@pytest.mark.parametrize("ids", [prompt(1, 3, 1), torch.tensor([True, False, True, True, True])])
def test_placeholders_that_do_not_fit_the_grid_are_refused(ids):
    with pytest.raises(ValueError, match="expected 4 visual tokens"):
        mrope_positions(ids, [Medium("video", (2, 2, 4), 1.0)], 2, tokens_per_second=2)


def test_several_media_with_words_between_each_go_on_after_the_largest_coordinate():
    media = [Medium("video", (2, 2, 4), 1.0), Medium("image", (1, 4, 2)), Medium("video", (3, 2, 2), 0.5)]
    visual = [False, *[True] * 4, False, False, *[True] * 2, *[True] * 3, False]  # nothing between the last two
    positions = mrope_positions(torch.tensor(visual), media, 2, tokens_per_second=2)
    assert positions.tolist() == [
        [0, 1, 1, 3, 3, 4, 5, 6, 6, 8, 9, 10, 11],
        [0, 1, 1, 1, 1, 4, 5, 6, 7, 8, 8, 8, 11],
        [0, 1, 2, 1, 2, 4, 5, 6, 6, 8, 8, 8, 11],
    ]


def test_positions_of_several_images_are_those_of_transformers():
    """Which follows the original rule where no block is longer than it is wide and high: pictures, square ones."""
    media = [Medium("image", (1, 4, 4)), Medium("image", (1, 8, 8)), Medium("image", (1, 4, 4))]
    kinds = torch.tensor([0, 0, *[1] * 4, 0, *[1] * 16, 0, 0, *[1] * 4, 0])
    model = build_model(0).model
    ids = torch.where(kinds == 1, model.config.image_token_id, 50)
    grids = torch.tensor([medium.grid_thw for medium in media])
    theirs, _ = model.get_rope_index(ids[None], mm_token_type_ids=kinds[None], image_grid_thw=grids)
    assert torch.equal(theirs[:, 0], mrope_positions(kinds.bool(), media, 2, tokens_per_second=2))
