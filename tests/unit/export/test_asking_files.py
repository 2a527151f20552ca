"""Processors of an exported folder resize as the run's encoder did, whatever the family and the layout of files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, GenerationConfig
from transformers.video_utils import VideoMetadata

from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoSettings
from ktr.export.asking_files import write_asking
from ktr.policy.families import load_policy, make_encoder
from ktr.types import MediaFile, VideoQuestion
from tests.processor_folders import LAYOUTS, Frames, folder_with
from tests.tiny_families import FAMILIES, save_family

VIDEO: Any = {"num_frames": 4, "min_pixels": 80 * 80, "max_pixels": 120 * 130}
CONFIG = {"video": VIDEO, "prompt": {}, "sampling": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 9}}


def check_resizes_as_ktr(folder: Path, height: int, width: int) -> None:
    reader = Frames(VideoSettings(**VIDEO), height, width)
    encoder = make_encoder(folder, PromptTemplate("", {}), reader, max_prompt_tokens=1000)
    processor = AutoProcessor.from_pretrained(folder)
    for kind in ("video", "image"):
        file = MediaFile(Path("clip"), kind)
        ours = encoder.encode(VideoQuestion("", "what color is first ?", "free-form", "red", (file,)))
        if kind == "video":
            frames = torch.from_numpy(reader.read(Path("clip")).frames_FHWC).permute(0, 3, 1, 2)
            metadata = VideoMetadata(total_num_frames=4, fps=reader.fps, frames_indices=[0, 1, 2, 3])
            found = processor.video_processor(
                [frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
            )
            grid, pixels = found["video_grid_thw"], found["pixel_values_videos"]
        else:
            picture = torch.from_numpy(np.ascontiguousarray(reader.read_image(Path("clip")))).permute(2, 0, 1)
            found = processor.image_processor([picture], return_tensors="pt")
            grid, pixels = found["image_grid_thw"], found["pixel_values"]
        assert tuple(grid[0].tolist()) == ours.media[0].grid_thw
        _, tall, wide, _ = encoder.frames(ours)[0].shape
        assert VIDEO["min_pixels"] <= tall * wide <= VIDEO["max_pixels"], "of one frame"
        torch.testing.assert_close(pixels, ours.pixels_NC)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_resizes_as_in_training(family: str, tmp_path: Path):
    folder = save_family(family, tmp_path / "model")
    write_asking(folder, CONFIG, load_policy(folder))
    for height, width in ((720, 1280), (40, 30)):
        check_resizes_as_ktr(folder, height, width)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_of_files_stays_and_resizes_as_in_training(layout: str, tmp_path: Path):
    folder = folder_with(LAYOUTS[layout], tmp_path / "model")
    files = sorted(path.name for path in folder.iterdir())
    write_asking(folder, CONFIG, load_policy(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*files, "ktr.yaml"])
    check_resizes_as_ktr(folder, 720, 1280)


def test_who_says_nothing_of_sampling_samples_as_the_run_did(tmp_path: Path):
    folder = save_family("qwen2_5_vl", tmp_path / "model")
    policy = load_policy(folder)
    start = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(start | {"repetition_penalty": 1.05, "top_k": 1}))
    write_asking(folder, CONFIG, policy)
    found = GenerationConfig.from_pretrained(folder)
    assert (found.do_sample, found.temperature, found.top_p, found.top_k) == (True, 0.7, 0.9, 0)
    assert found.repetition_penalty in (None, 1.0)
    assert (found.eos_token_id, found.pad_token_id) == (start["eos_token_id"], start["pad_token_id"])
