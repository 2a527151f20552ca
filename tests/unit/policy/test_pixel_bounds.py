"""The bound on pixels is the one that is asked for, whatever layout a model folder's processor files have."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ktr.data.prompts import PromptTemplate
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import ConfigError
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.shapes.tiny_model import COLD_START
from ktr.types import VideoQuestion

MIN, MAX = 16 * 28 * 28, 128 * 28 * 28
HUB = {"min_pixels": 3136, "max_pixels": 12845056}  # as the published Qwen2.5-VL folders have them
SIZE = {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}
SHAPE = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
IMAGE = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
VIDEO = {"video_processor_type": "Qwen2VLVideoProcessor"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "the hub's": {"preprocessor_config.json": HUB | SHAPE | IMAGE},
    "size alone": {"preprocessor_config.json": SIZE | SHAPE | IMAGE},
    "both": {"preprocessor_config.json": HUB | SIZE | SHAPE | IMAGE},
    "two files": {
        "preprocessor_config.json": HUB | SHAPE | IMAGE,
        "video_preprocessor_config.json": SIZE | HUB | SHAPE | VIDEO,
    },
    "one merged file": {
        "processor_config.json": {
            "processor_class": "Qwen2_5_VLProcessor",
            "image_processor": HUB | SHAPE | IMAGE,
            "video_processor": HUB | SIZE | SHAPE | VIDEO,
        }
    },
}


class Frames(VideoReader):
    """Frames of any size, without a file."""

    def __init__(self, settings: VideoSettings, height: int, width: int):
        super().__init__(settings)
        self.shape = (settings.num_frames, height, width, 3)

    def read(self, path: Path) -> DecodedVideo:
        frames = np.zeros(self.shape, dtype=np.uint8)
        return DecodedVideo(frames, tuple(range(len(frames))), 2.0, len(frames), path)

    def read_image(self, path: Path) -> np.ndarray:
        return np.zeros(self.shape[1:], dtype=np.uint8)


def folder_with(files: dict[str, Any], folder: Path) -> Path:
    shutil.copytree(COLD_START, folder)
    (folder / "processor_config.json").unlink()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def encoder(path: Path, height: int, width: int) -> PromptEncoder:
    settings = VideoSettings(num_frames=16, max_pixels=MAX, min_pixels=MIN)
    return PromptEncoder(path, PromptTemplate("", {}), Frames(settings, height, width), max_prompt_tokens=1 << 20)


def question(data_type: Any) -> VideoQuestion:
    return VideoQuestion("q", "what color is first ?", "free-form", "red", Path("clip"), data_type)


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
