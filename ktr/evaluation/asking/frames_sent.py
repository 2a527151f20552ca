"""Media as an endpoint is sent them: the frames and pixels that the encoder of a Qwen policy shows it, without loss."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torchvision.transforms.v2 import functional as tvF
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import TooThinMedia
from ktr.types import MediaFile

FramesAs = Literal["images", "video"]


@dataclass(frozen=True)
class SentMedium:
    """A medium as parts of a message: a picture each, or all frames in one. ``sampled`` tells vLLM of what they are."""

    parts: tuple[dict[str, Any], ...]
    num_frames: int
    sampled: Mapping[str, Any] | None = None


class MediaSender:
    """Makes parts of a message of media, of videos the frames that ``reader`` samples.

    Sides are multiples of ``size_factor``, a patch of the model times its merge, and the area of a frame within the
    bounds of the reader's settings. As "video" a clip is one part, in the form that vLLM's servers read.
    """

    def __init__(self, reader: VideoReader, size_factor: int = 28, frames_as: FramesAs = "images") -> None:
        self.reader, self.size_factor = reader, size_factor
        self.frames_as: FramesAs = frames_as

    def apart(self, num_frames: int) -> "MediaSender":
        """One with a reader of its own, for another thread, and for ``num_frames`` of each video."""
        reader = VideoReader(replace(self.reader.settings, num_frames=num_frames))
        return MediaSender(reader, self.size_factor, self.frames_as)

    def send(self, file: MediaFile) -> SentMedium:
        """Raises a ``MediaError`` where the file cannot be decoded or is too thin."""
        if file.kind == "image":
            picture_HWC = self.reader.read_image(file.path)
            return SentMedium(tuple(map(_image, self._png(picture_HWC[None], file.path))), 1)
        video = self.reader.read(file.path, file.clip)
        pictures = self._png(video.frames_FHWC, file.path)
        if self.frames_as == "images":
            return SentMedium(tuple(map(_image, pictures)), len(pictures))
        # vLLM says JPEG, and reads whatever a picture is.
        url = f"data:video/jpeg;base64,{','.join(pictures)}"
        return SentMedium(({"type": "video_url", "video_url": {"url": url}},), len(pictures), sampled_of(video))

    def _png(self, frames_FHWC: UInt8[np.ndarray, "F H W 3"], path: Path) -> list[str]:
        """The resized frames as PNG files in base64."""
        frames_FCHW = torch.from_numpy(np.ascontiguousarray(frames_FHWC)).permute(0, 3, 1, 2)
        try:
            resized_FCHW = resized(frames_FCHW, self.reader.settings, self.size_factor)
        except ValueError as error:  # of a side that is 200 times the other
            raise TooThinMedia(path, str(error)) from None
        return [_as_png(frame_HWC) for frame_HWC in resized_FCHW.permute(0, 2, 3, 1).numpy()]


def resized(
    frames_FCHW: UInt8[torch.Tensor, "F 3 H W"], settings: VideoSettings, size_factor: int
) -> UInt8[torch.Tensor, "F 3 h w"]:
    """Frames as the processors of Qwen's families resize them, before they are scaled and normalised."""
    height, width = frames_FCHW.shape[-2:]
    size = smart_resize(height, width, size_factor, settings.min_pixels, settings.max_pixels)
    return tvF.resize(frames_FCHW, list(size), tvF.InterpolationMode.BICUBIC, antialias=True)


def sampled_of(video: DecodedVideo) -> dict[str, Any]:
    """What vLLM has to be told of the frames of a video, so that it takes all and places them in time as we do.

    It computes the time between temporal patches from where the frames were. Frames at varying times, or of which the
    last is repeated, are told as a video of their own rate.
    """
    num_frames, total = len(video.frame_indices), video.total_num_frames
    if not video.is_constant_rate:
        return {"num_frames": -1, "fps": 1 / video.seconds_per_temporal_patch(1)}
    if num_frames > total:
        return {"num_frames": -1, "fps": num_frames / total * video.fps}
    places = [int(index) for index in video.frame_indices]
    return {"num_frames": -1, "fps": float(video.fps), "frames_indices": places, "total_num_frames": total}


def _image(picture: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}


def _as_png(frame_HWC: UInt8[np.ndarray, "H W 3"]) -> str:
    file = io.BytesIO()
    Image.fromarray(frame_HWC).save(
        file, "PNG", compress_level=1
    )  # a sixth more bytes than at best, in a quarter of the time
    return base64.b64encode(file.getvalue()).decode()
