"""Model folders with the processor files that published ones have, and frames of any size to ask about."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ktr.data.prompts import PromptTemplate
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.shapes.tiny_model import COLD_START
from ktr.types import WHOLE, Clip, MediaFile, VideoQuestion

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

    def __init__(self, settings: VideoSettings, height: int, width: int, fps: float = 2.0):
        super().__init__(settings)
        self.fps = fps
        self.shape = (settings.num_frames, height, width, 3)

    def read(self, path: Path, clip: Clip = WHOLE) -> DecodedVideo:
        frames = np.random.default_rng(0).integers(0, 255, self.shape, dtype=np.uint8)
        return DecodedVideo(frames, tuple(range(len(frames))), self.fps, len(frames), path)

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
    return VideoQuestion("q", "what color is first ?", "free-form", "red", (MediaFile(Path("clip"), data_type),))
