"""From a question to what the policy reads: chat template, expanded placeholders, pixels, explicit positions."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import UInt8
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader, VideoSettings
from ktr.errors import ConfigError, MissingModel, PromptTooLong, TooLongMedia, TooThinMedia
from ktr.policy.qwen2_5_vl.positions import mrope_positions
from ktr.types import PromptInputs, VideoQuestion

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

        Raises a ``MediaError`` that names the file where it can't be decoded, is too thin or lasts too long, and
        ``PromptTooLong``.
        """
        if question.data_type == "video":
            video = self.reader.read(question.media_path)
            _check_shape(question, video.frames_FHWC.shape[1:3])
            frames = torch.from_numpy(np.ascontiguousarray(video.frames_FHWC)).permute(0, 3, 1, 2)
            patches = self._videos(videos=[frames], do_sample_frames=False, return_tensors="pt")
            pixels_NC, grid = patches["pixel_values_videos"], patches["video_grid_thw"][0]
            seconds_per_patch = video.seconds_per_temporal_patch(self._videos.temporal_patch_size)
            token = "<|video_pad|>"
        else:
            pixels_HWC = np.ascontiguousarray(self.reader.read_image(question.media_path))
            _check_shape(question, pixels_HWC.shape[:2])
            image = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
            patches = self._images(images=[image], return_tensors="pt")
            pixels_NC, grid = patches["pixel_values"], patches["image_grid_thw"][0]
            seconds_per_patch, token = 0.0, "<|image_pad|>"

        grid_thw = (int(grid[0]), int(grid[1]), int(grid[2]))
        text = self.tokenizer.apply_chat_template(
            self.template.messages(question), tokenize=False, add_generation_prompt=True
        )
        input_ids_P = self._expand(str(text), token, num_visual=pixels_NC.shape[0] // self._videos.merge_size**2)
        if len(input_ids_P) > self.max_prompt_tokens:
            raise PromptTooLong(question.id, len(input_ids_P), self.max_prompt_tokens)
        # Before positions are made: those of a frame rate near 0 would overflow.
        num_text = len(input_ids_P) - pixels_NC.shape[0] // self._videos.merge_size**2
        last = num_text + (grid_thw[0] - 1) * seconds_per_patch * self._tokens_per_second
        if last >= self._max_position:
            reason = (
                f"at {seconds_per_patch:.4g} s from patch to patch its prompt reaches position {last:.4g}, and the "
                f"model has {self._max_position} beside an answer"
            )
            raise TooLongMedia(question.media_path, reason)
        positions_3P = mrope_positions(
            input_ids_P,
            cast(int, self.tokenizer.convert_tokens_to_ids(token)),
            grid_thw,
            self._videos.merge_size,
            seconds_per_patch,
            self._tokens_per_second,
        )
        return PromptInputs(question, input_ids_P, positions_3P, pixels_NC, grid_thw, seconds_per_patch)

    def frames(self, prompt: PromptInputs) -> UInt8[np.ndarray, "F H W 3"]:
        """The frames that a prompt shows the policy, sampled and resized; of an image, the one picture."""
        (t, h, w), merge, patch = prompt.grid_thw, self._videos.merge_size, self._videos.patch_size
        # Patches are laid out (time, block row, block column, row, column), each (channel, frame, y, x).
        pixels = prompt.pixels_NC.float().cpu().reshape(t, h // merge, w // merge, merge, merge, 3, -1, patch, patch)
        frames_FHWC = pixels.permute(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(-1, h * patch, w * patch, 3)
        of_colors = torch.tensor(self._videos.image_std), torch.tensor(self._videos.image_mean)
        frames_FHWC = ((frames_FHWC * of_colors[0] + of_colors[1]) * 255).round().clamp(0, 255).to(torch.uint8)
        return (frames_FHWC if prompt.question.data_type == "video" else frames_FHWC[:1]).numpy()

    def _expand(self, text: str, token: str, num_visual: int) -> torch.Tensor:
        """Token ids of the prompt, its single placeholder repeated once per merged visual token."""
        if text.count(token) != 1:
            raise ValueError(f"the chat template must hold {token} once, found {text.count(token)} in: {text!r}")
        before, after = (self.tokenizer.encode(part, add_special_tokens=False) for part in text.split(token))
        placeholder = self.tokenizer.convert_tokens_to_ids(token)
        return torch.tensor(before + [placeholder] * num_visual + after)


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


def _check_shape(question: VideoQuestion, shape: tuple[int, ...]) -> None:
    height, width = shape
    if max(shape) > MAX_ASPECT_RATIO * min(shape):
        reason = f"it is {width}×{height} pixels, and one side may be {MAX_ASPECT_RATIO} times the other at most"
        raise TooThinMedia(question.media_path, reason)
