"""The bound on pixels is the one that is asked for, whatever layout a model folder's processor files have."""

from pathlib import Path

import pytest

from ktr.errors import ConfigError
from tests.processor_folders import HUB, IMAGE, LAYOUTS, MAX, MIN, SHAPE, encoder, folder_with, question


@pytest.mark.parametrize("data_type", ["video", "image"])
@pytest.mark.parametrize("size", [(720, 1280), (1280, 720), (64, 64)], ids=["wide", "tall", "small"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_a_question_the_tokens_of_the_bound_that_is_asked_for(
    layout: str, size: tuple[int, int], data_type: str, tmp_path: Path
):
    prompt = encoder(folder_with(LAYOUTS[layout], tmp_path / "model"), *size).encode(question(data_type))
    patches, height, width = prompt.grid_thw
    assert patches == (8 if data_type == "video" else 1)
    assert MIN <= height * width * 14**2 <= MAX
    smaller = (height - 2) * (width - 2) * 14**2
    assert smaller < (MIN if size == (64, 64) else MAX), "and no smaller than the bound allows"


def test_a_folder_whose_processor_does_not_resize_is_refused(tmp_path: Path):
    files = {"preprocessor_config.json": HUB | SHAPE | IMAGE | {"do_resize": False}}
    with pytest.raises(ConfigError, match=r"do_resize=False.*max_pixels=100352"):
        encoder(folder_with(files, tmp_path / "model"), 64, 64)
