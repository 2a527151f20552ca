"""Frames to an mp4 file, small and true in colour."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ENCODER_OPTIONS = {"crf": "12", "preset": "ultrafast", "threads": "1"}


def write_video(frames_FHWC: np.ndarray, path: Path, fps: float) -> None:
    """Encode uint8 frames (F, H, W, 3) as h264 without chroma subsampling, so that small shapes keep their colours."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=ENCODER_OPTIONS)
        stream.height, stream.width = frames_FHWC.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for image in frames_FHWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
