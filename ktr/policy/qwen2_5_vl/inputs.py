"""From a question to what the policy reads: chat template, expanded placeholders, pixels, explicit positions."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import ConfigError, MissingModel, PromptTooLong, TooLongMedia, TooThinMedia
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.types import MediaFile, MediaKind, Medium, PromptInputs, VideoQuestion

PLACEHOLDERS: dict[MediaKind, str] = {"video": "<|video_pad|>", "image": "<|image_pad|>"}
MAX_ASPECT_RATIO = 200  # of the processors: they raise above it


class PromptEncoder:
    """Encodes questions with the processor of a model folder; one encoder serves training, validation and every engine.

    Frames are read and sampled by ``reader``; the transformers video processor only resizes, normalises and cuts them
    into patches. The time between temporal patches is that of the *sampled* frames. A prompt of more than
    ``max_prompt_tokens`` raises ``PromptTooLong``: cutting it would drop part of the video or of the question. So does
    one that leaves no room for ``max_answer_tokens`` in the model's table of positions. ``context_tokens`` is how many
    the model takes at most, prompt and answer together.
    """

    def __init__(
        self,
        path: str | Path,
        template: PromptTemplate,
        reader: VideoReader,
        max_prompt_tokens: int,
        max_answer_tokens: int = 0,
    ):
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
        if self.tokenizer.chat_template is None:
            raise MissingModel(f"{path}: its tokenizer has no chat template; put the model's chat_template.jinja there")
        self._placeholder_ids = {
            kind: cast(int, self.tokenizer.convert_tokens_to_ids(token)) for kind, token in PLACEHOLDERS.items()
        }
        self.template = template
        self.reader = reader
        self._videos = cast(
            Qwen2VLVideoProcessor,
            _bounded(Qwen2VLVideoProcessor, path, reader.settings, cap_pixels_per_frame=False),
        )
        self._images = cast(Qwen2VLImageProcessor, _bounded(Qwen2VLImageProcessor, path, reader.settings))
        config: Any = AutoConfig.from_pretrained(path)
        self._tokens_per_second = config.vision_config.to_dict()["tokens_per_second"]
        self.context_tokens = cast(int, config.get_text_config().max_position_embeddings)
        self._max_position = self.context_tokens - max_answer_tokens
        self.max_prompt_tokens = min(max_prompt_tokens, self._max_position)

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
            raise PromptTooLong(question.id, len(input_ids_P), self.max_prompt_tokens)
        visual_P = torch.isin(input_ids_P, torch.tensor(list(self._placeholder_ids.values())))
        self._check_duration(question, media, num_text=int((~visual_P).sum()))
        positions_3P = mrope_positions(visual_P, media, self._videos.merge_size, self._tokens_per_second)
        return PromptInputs(question, input_ids_P, positions_3P, torch.cat(pixels), media)

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
            video = self.reader.read(file.path)
            _check_shape(file.path, video.frames_FHWC.shape[1:3])
            frames = torch.from_numpy(np.ascontiguousarray(video.frames_FHWC)).permute(0, 3, 1, 2)
            patches = self._videos(videos=[frames], do_sample_frames=False, return_tensors="pt")
            pixels_NC, grid = patches["pixel_values_videos"], patches["video_grid_thw"][0]
            seconds_per_patch = video.seconds_per_temporal_patch(self._videos.temporal_patch_size)
        else:
            pixels_HWC = np.ascontiguousarray(self.reader.read_image(file.path))
            _check_shape(file.path, pixels_HWC.shape[:2])
            patches = self._images(images=[torch.from_numpy(pixels_HWC).permute(2, 0, 1)], return_tensors="pt")
            pixels_NC, grid, seconds_per_patch = patches["pixel_values"], patches["image_grid_thw"][0], 0.0
        return pixels_NC, Medium(file.kind, (int(grid[0]), int(grid[1]), int(grid[2])), seconds_per_patch)

    def _check_duration(self, question: VideoQuestion, media: Sequence[Medium], num_text: int) -> None:
        """Before positions are made: those of a frame rate near 0 would overflow."""
        spans = [(m.grid_thw[0] - 1) * m.seconds_per_patch * self._tokens_per_second for m in media]
        if (last := num_text + sum(spans)) >= self._max_position:
            longest = spans.index(max(spans))
            reason = (
                f"at {media[longest].seconds_per_patch:.4g} s from patch to patch its prompt reaches position "
                f"{last:.4g}, and the model has {self._max_position} beside an answer"
            )
            raise TooLongMedia(question.media[longest].path, reason)

    def _expand(self, text: str, media: Sequence[Medium]) -> Int[torch.Tensor, " P"]:
        """Token ids of the prompt, the placeholder of each medium repeated once per merged visual token."""
        first, *parts = re.split(r"(<\|(?:video|image)_pad\|>)", text)
        tokens = [PLACEHOLDERS[medium.kind] for medium in media]
        if parts[::2] != tokens:
            raise ValueError(f"the chat template must hold {tokens} in this order, found {parts[::2]} in: {text!r}")
        ids = list(self.tokenizer.encode(first, add_special_tokens=False))
        for medium, after in zip(media, parts[1::2], strict=True):
            num_visual = medium.num_patches // self._videos.merge_size**2
            ids += [self._placeholder_ids[medium.kind]] * num_visual
            ids += self.tokenizer.encode(after, add_special_tokens=False)
        return torch.tensor(ids)


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


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    height, width = shape
    if max(shape) > MAX_ASPECT_RATIO * min(shape):
        reason = f"it is {width}×{height} pixels, and one side may be {MAX_ASPECT_RATIO} times the other at most"
        raise TooThinMedia(path, reason)
