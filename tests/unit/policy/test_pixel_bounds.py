"""The bound on pixels is the one that is asked for, whatever layout a model folder's processor files have."""

from pathlib import Path

import pytest

from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoSettings
from ktr.errors import ConfigError, PromptTooLong, TooLongMedia, TooThinMedia
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.shapes.tiny_model import COLD_START
from tests.processor_folders import HUB, IMAGE, LAYOUTS, MAX, MIN, SHAPE, Frames, encoder, folder_with, question


@pytest.mark.parametrize("data_type", ["video", "image"])
@pytest.mark.parametrize("size", [(720, 1280), (1280, 720), (64, 64)], ids=["wide", "tall", "small"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_a_question_the_tokens_of_the_bound_that_is_asked_for(
    layout: str, size: tuple[int, int], data_type: str, tmp_path: Path
):
    prompt = encoder(folder_with(LAYOUTS[layout], tmp_path / "model"), *size).encode(question(data_type))
    patches, height, width = prompt.media[0].grid_thw
    assert patches == (8 if data_type == "video" else 1)
    assert MIN <= height * width * 14**2 <= MAX
    smaller = (height - 2) * (width - 2) * 14**2
    assert smaller < (MIN if size == (64, 64) else MAX), "and no smaller than the bound allows"


def test_a_folder_whose_processor_does_not_resize_is_refused(tmp_path: Path):
    files = {"preprocessor_config.json": HUB | SHAPE | IMAGE | {"do_resize": False}}
    with pytest.raises(ConfigError, match=r"do_resize=False.*max_pixels=100352"):
        encoder(folder_with(files, tmp_path / "model"), 64, 64)


@pytest.mark.parametrize("data_type", ["video", "image"])
@pytest.mark.parametrize(("height", "width"), [(1, 201), (201, 1)])
def test_a_shape_that_the_processor_refuses_is_a_fault_of_the_file(height: int, width: int, data_type: str):
    with pytest.raises(TooThinMedia, match=f"{width}×{height}"):
        encoder(COLD_START, height, width).encode(question(data_type))
    encoder(COLD_START, min(height, 200), min(width, 200)).encode(question(data_type))


@pytest.mark.parametrize("data_type", ["video", "image"])
def test_a_single_pixel_is_a_picture(data_type: str):
    assert encoder(COLD_START, 1, 1).encode(question(data_type)).num_tokens > 16


def slow_encoder(fps: float, max_answer_tokens: int = 0) -> PromptEncoder:
    settings = VideoSettings(num_frames=16, max_pixels=56 * 56, min_pixels=56 * 56)
    reader = Frames(settings, 56, 56, fps)
    return PromptEncoder(COLD_START, PromptTemplate("", {}), reader, 960, max_answer_tokens=max_answer_tokens)


@pytest.mark.parametrize("fps", [1e-300, 1e-6, 0.02])
def test_a_frame_rate_that_leaves_the_table_of_positions_is_a_fault_of_the_file(fps: float):
    with pytest.raises(TooLongMedia, match="clip: at .* s from patch to patch"):
        slow_encoder(fps).encode(question("video"))


def test_the_last_position_in_the_table_is_one_to_use():
    """Positions of 7 patches and of the text, and of an answer after them."""
    prompt = slow_encoder(0.1).encode(question("video"))
    last = int(prompt.positions_3P.max())
    assert last > prompt.num_tokens
    assert slow_encoder(0.1, 1024 - last - 1).encode(question("video")).num_tokens == prompt.num_tokens
    with pytest.raises(TooLongMedia):
        slow_encoder(0.1, 1024 - last).encode(question("video"))
    with pytest.raises(
        PromptTooLong, match=r"the model has positions for 30; lower sampling\.max_tokens, or lower video"
    ):
        slow_encoder(0.1, 1024 - 30).encode(question("video"))


def test_an_answer_that_leaves_a_prompt_no_position_is_refused_with_what_to_lower():
    with pytest.raises(ConfigError, match=r"max_answer_tokens=1024: .* has 1024 positions .*lower sampling"):
        slow_encoder(1.0, 1024)
