"""From a question to what the policy reads: chat template, expanded placeholders, pixels, explicit positions.

What a family says of its own: how a medium is written, in which blocks of placeholders, where they are placed, and
whose class cuts frames into patches.
"""

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from transformers import AutoConfig, PreTrainedTokenizerBase
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from ktr.data.frame_cache import FrameCache
from ktr.data.prompts import PromptTemplate
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import ConfigError, MissingModel, PromptTooLong, TooThinMedia
from ktr.policy.tokenizer import load_tokenizer
from ktr.types import MediaFile, MediaKind, Medium, PromptInputs, VideoQuestion

PLACEHOLDERS: dict[MediaKind, str] = {"video": "<|video_pad|>", "image": "<|image_pad|>"}


class Encoder(ABC):
    """Encodes questions with the processor of a model folder; one encoder serves training, validation and every engine.

    Frames are read and sampled by ``reader``; the transformers video processor only resizes, normalises and cuts them
    into patches. The time between temporal patches is that of the *sampled* frames. A prompt of more than
    ``max_prompt_tokens`` raises ``PromptTooLong``: cutting it would drop part of the video or of the question. So does
    one that leaves no room for ``max_answer_tokens`` in the model's table of positions. ``context_tokens`` is how many
    the model takes at most, prompt and answer together. With a ``cache``, frames are kept as the processor resizes
    them, and give the same patches to the bit.
    """

    video_processor: ClassVar[Any] = Qwen2VLVideoProcessor
    bounds_all_frames: ClassVar[bool] = False  # whether the video processor's bounds are of all frames together
    max_aspect_ratio: ClassVar[int] = 200  # of the processors: they raise above it

    def __init__(
        self,
        path: str | Path,
        template: PromptTemplate,
        reader: VideoReader,
        max_prompt_tokens: int,
        max_answer_tokens: int = 0,
        cache: FrameCache | None = None,
    ):
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(path)
        if self.tokenizer.chat_template is None:
            raise MissingModel(f"{path}: its tokenizer has no chat template; put the model's chat_template.jinja there")
        self._placeholder_ids = {
            kind: cast(int, self.tokenizer.convert_tokens_to_ids(token)) for kind, token in PLACEHOLDERS.items()
        }
        self.template = template
        self.reader, self.cache = reader, cache
        self._videos: Any = _bounded(self.video_processor, path, reader.settings, cap_pixels_per_frame=False)
        self._images = cast(Qwen2VLImageProcessor, _bounded(Qwen2VLImageProcessor, path, reader.settings))
        config: Any = AutoConfig.from_pretrained(path)
        _check_patches(path, (self._videos, self._images), config.vision_config)
        self.vision_config = config.vision_config
        self.context_tokens = cast(int, config.get_text_config().max_position_embeddings)
        self._max_position = self.context_tokens - max_answer_tokens
        if self._max_position < 1:
            raise ConfigError(
                f"encoder.max_answer_tokens={max_answer_tokens}: the model at {path} has {self.context_tokens} "
                "positions for a prompt and its answer together; lower sampling.max_tokens, which it is"
            )
        self.max_prompt_tokens = min(max_prompt_tokens, self._max_position)

    def apart(self, num_frames: int) -> "Encoder":
        """This encoder with a reader of its own, for another thread, and for ``num_frames`` of each video."""
        other = copy.copy(self)
        other.tokenizer = copy.deepcopy(self.tokenizer)  # one is not to be used by two threads
        other.reader = VideoReader(replace(self.reader.settings, num_frames=num_frames))
        return other

    def encode(self, question: VideoQuestion) -> PromptInputs:
        """Read the media of one question and encode it.

        Raises a ``MediaError`` that names the file where one can't be decoded, is too thin or lasts too long, and
        ``PromptTooLong``.
        """
        pixels, media = zip(*map(self._read, question.media), strict=True)
        text = self.tokenizer.apply_chat_template(
            self.template.messages(question), tokenize=False, add_generation_prompt=True
        )
        input_ids_P = self._expand(str(text), media)
        if len(input_ids_P) > self.max_prompt_tokens:
            of_model = self.max_prompt_tokens == self._max_position
            raise PromptTooLong(question.id, len(input_ids_P), self.max_prompt_tokens, of_model)
        visual_P = torch.isin(input_ids_P, torch.tensor(list(self._placeholder_ids.values())))
        return PromptInputs(question, input_ids_P, self._positions(question, visual_P, media), torch.cat(pixels), media)

    @abstractmethod
    def _positions(
        self, question: VideoQuestion, visual_P: Bool[torch.Tensor, " P"], media: Sequence[Medium]
    ) -> Int[torch.Tensor, "3 P"]:
        """M-RoPE positions of a prompt whose placeholders are where ``visual_P`` is True."""

    def _written(self, medium: Medium) -> str:
        """What stands for a medium in the text: one placeholder for each of its ``_blocks``, and words between them."""
        return PLACEHOLDERS[medium.kind]

    def _blocks(self, medium: Medium) -> Sequence[Medium]:
        """The parts of a medium whose placeholders are without words between them."""
        return [medium]

    @classmethod
    def video_size(cls, settings: VideoSettings, num_frames: int) -> dict[str, int]:
        """What the video processor has to be told so that the bounds hold for each of ``num_frames`` frames."""
        times = num_frames if cls.bounds_all_frames else 1
        return {"shortest_edge": settings.min_pixels * times, "longest_edge": settings.max_pixels * times}

    def frames(self, prompt: PromptInputs) -> list[UInt8[np.ndarray, "F H W 3"]]:
        """The frames of each medium that a prompt shows the policy, sampled and resized; of an image, the picture."""
        merge, patch = self._videos.merge_size, self._videos.patch_size
        std, mean = torch.tensor(self._videos.image_std), torch.tensor(self._videos.image_mean)
        shown = []
        for medium, pixels_NC in zip(prompt.media, prompt.by_medium(prompt.pixels_NC.float().cpu()), strict=True):
            t, h, w = medium.grid_thw
            # Patches are laid out (time, block row, block column, row, column), each (channel, frame, y, x).
            pixels = pixels_NC.reshape(t, h // merge, w // merge, merge, merge, 3, -1, patch, patch)
            frames_FHWC = pixels.permute(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(-1, h * patch, w * patch, 3)
            frames_FHWC = ((frames_FHWC * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
            shown.append((frames_FHWC if medium.kind == "video" else frames_FHWC[:1]).numpy())
        return shown

    def _read(self, file: MediaFile) -> tuple[Float[torch.Tensor, "N C"], Medium]:
        if file.kind == "video":
            video = self._video(file)
            frames = _channels_first(video)
            size_told = self.video_size(self.reader.settings, len(frames))
            patches = self._videos(videos=[frames], do_sample_frames=False, return_tensors="pt", size=size_told)
            pixels_NC, grid = patches["pixel_values_videos"], patches["video_grid_thw"][0]
            size = self._videos.temporal_patch_size
            times = video.seconds_per_temporal_patch(size), video.seconds_of_temporal_patches(size)
        else:
            pixels_HWC = np.ascontiguousarray(self.reader.read_image(file.path))
            self._check_shape(file.path, pixels_HWC.shape[:2])
            patches = self._images(images=[torch.from_numpy(pixels_HWC).permute(2, 0, 1)], return_tensors="pt")
            pixels_NC, grid, times = patches["pixel_values"], patches["image_grid_thw"][0], (0.0, ())
        return pixels_NC, Medium(file.kind, (int(grid[0]), int(grid[1]), int(grid[2])), *times)

    def _video(self, file: MediaFile) -> DecodedVideo:
        """The frames that were sampled of a video; with a cache, resized to the size that they are shown in."""
        key = None if self.cache is None else self.cache.key(file, self.reader.settings, self._videos.to_dict())
        if self.cache is not None and key is not None and (kept := self.cache.get(key, file.path)) is not None:
            return kept
        video = self.reader.read(file.path, file.clip)
        self._check_shape(file.path, video.frames_FHWC.shape[1:3])
        if self.cache is not None and key is not None and (resized := self._resized(video)) is not None:
            self.cache.put(key, resized)
        return video

    def _resized(self, video: DecodedVideo) -> DecodedVideo | None:
        """The video as the processor resizes it; None where it would resize that once more, and give other patches."""
        frames = _channels_first(video)[None]
        size = SizeDict(**self.video_size(self.reader.settings, len(video.frames_FHWC)))
        factor, steps = self._videos.patch_size * self._videos.merge_size, self._videos.temporal_patch_size
        resize = partial(
            self._videos.resize, size=size, resample=self._videos.resample, factor=factor, temporal_factor=steps
        )
        resized = resize(frames)
        height, width = resized.shape[-2:]
        if max(height, width) > self.max_aspect_ratio * min(height, width) or resize(resized).shape != resized.shape:
            return None
        return replace(video, frames_FHWC=resized[0].permute(0, 2, 3, 1).numpy())

    def _expand(self, text: str, media: Sequence[Medium]) -> Int[torch.Tensor, " P"]:
        """Token ids of the prompt, the placeholder of each block repeated once per merged visual token."""
        first, *parts = _at_placeholders(text)
        tokens = [PLACEHOLDERS[medium.kind] for medium in media]
        if parts[::2] != tokens:
            raise ValueError(f"the chat template must hold {tokens} in this order, found {parts[::2]} in: {text!r}")
        written = [self._written(medium) + after for medium, after in zip(media, parts[1::2], strict=True)]
        first, *parts = _at_placeholders("".join([first, *written]))
        blocks = [block for medium in media for block in self._blocks(medium)]
        ids = list(self.tokenizer.encode(first, add_special_tokens=False))
        for block, after in zip(blocks, parts[1::2], strict=True):
            num_visual = block.num_patches // self._videos.merge_size**2
            ids += [self._placeholder_ids[block.kind]] * num_visual
            ids += self.tokenizer.encode(after, add_special_tokens=False)
        return torch.tensor(ids)

    def _check_shape(self, path: Path, shape: tuple[int, ...]) -> None:
        height, width = shape
        if max(shape) > self.max_aspect_ratio * min(shape):
            limit = f"{self.max_aspect_ratio} times the other at most"
            raise TooThinMedia(path, f"it is {width}×{height} pixels, and one side may be {limit}")


def _channels_first(video: DecodedVideo) -> UInt8[torch.Tensor, "F 3 H W"]:
    return torch.from_numpy(np.ascontiguousarray(video.frames_FHWC)).permute(0, 3, 1, 2)


def _at_placeholders(text: str) -> list[str]:
    return re.split(r"(<\|(?:video|image)_pad\|>)", text)


def _bounded(kind: Any, path: str | Path, settings: VideoSettings, **options: Any) -> Any:
    """The processor of a folder with the bounds of ``settings`` in place of the folder's, whatever layout those have.

    ``size``, ``min_pixels`` and ``max_pixels`` of a file each win over a ``size`` that is passed without the others.
    Raises ``ConfigError`` where another bound is in force all the same.
    """
    low, high = settings.min_pixels, settings.max_pixels
    size = {"shortest_edge": low, "longest_edge": high}
    processor = kind.from_pretrained(path, size=size, min_pixels=low, max_pixels=high, **options)
    if (processor.size.shortest_edge, processor.size.longest_edge) != (low, high) or not processor.do_resize:
        raise ConfigError(
            f"{path}: its {kind.__name__} resizes to {processor.size} pixels (do_resize={processor.do_resize}), and "
            f"video.min_pixels={low} video.max_pixels={high} are asked for; correct its preprocessor files"
        )
    return processor


def _check_patches(path: str | Path, processors: Sequence[Any], vision: Any) -> None:
    """Raise ConfigError where a folder's processor cuts other patches than its model reads."""
    names = {"patch_size": "patch_size", "merge_size": "spatial_merge_size", "temporal_patch_size": None}
    for processor in processors:
        for name, of_model in names.items():
            cut, read = getattr(processor, name), getattr(vision, of_model or name)
            if cut != read:
                raise ConfigError(
                    f"{path}: its {type(processor).__name__} has {name}={cut}, and its model reads {read}; correct its "
                    "preprocessor files"
                )
