"""What an exported folder itself says of how its policy is asked: pixels, sampling, and ktr.yaml for ktr."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ktr.config.as_trained import ASKING, NODES
from ktr.data.video import VideoSettings
from ktr.policy.families import encoder_class
from ktr.policy.family import Policy
from ktr.policy.folder_model import PROCESSOR_FILES
from ktr.record.json_file import read_object, write_object

IDS = ("bos_token_id", "pad_token_id", "transformers_version")


def write_asking(folder: Path, config: Mapping[str, Any], policy: Policy) -> None:
    """Let a folder be asked as ``config`` says that its run was: by transformers, by vLLM and by ktr."""
    settings = {key: config["video"][key] for key in ("num_frames", "min_pixels", "max_pixels")}
    _set_pixels(folder, VideoSettings(**settings))
    _set_sampling(folder, config.get("sampling") or {}, policy)
    asking = {node: config[node] for node in NODES if node in config}
    (folder / ASKING).write_text(OmegaConf.to_yaml(OmegaConf.create(asking)), encoding="utf-8")


def _set_pixels(folder: Path, settings: VideoSettings) -> None:
    """Let the folder's processors resize to these bounds, whatever layout its files have."""
    of_images = {"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels}
    of_videos = encoder_class(folder).video_size(settings, settings.num_frames)
    for name in PROCESSOR_FILES:
        if (content := read_object(folder / name)) is None:
            continue
        for part, is_video in _parts(name, content):
            part["size"] = size = of_videos if is_video else of_images
            for key, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
                if key in part:  # it wins over the size
                    part[key] = size[edge]
            if is_video:
                part["cap_pixels_per_frame"] = False  # a bound of transformers' own, which later releases switch on
        write_object(folder / name, content)


def _parts(name: str, content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """The settings of processors in a file, and whether they are those of videos alone."""
    if name == "processor_config.json":
        for key in ("image_processor", "video_processor"):
            if key in content:
                yield content[key], key == "video_processor"
    else:
        yield content, name.startswith("video")


def _set_sampling(folder: Path, sampling: Mapping[str, Any], policy: Policy) -> None:
    """Let who says nothing of it sample as the run did, and not by the penalties of the model that it started from."""
    path = folder / "generation_config.json"
    ids = {key: value for key, value in (read_object(path) or {}).items() if key in IDS}
    eos = list(policy.eos_token_ids)
    drawn = {"do_sample": True, "temperature": sampling.get("temperature", 1.0), "top_p": sampling.get("top_p", 1.0)}
    write_object(path, ids | {"eos_token_id": eos[0] if len(eos) == 1 else eos} | drawn | {"top_k": 0})
