"""What a video costs that is decoded, and one whose frames are kept: 30 seconds of 720p, 64 frames of it asked about.

python -m benchmarks.frame_cache [--rounds 5]

Medians of wall time, one thread, the file and the kept frames in the page cache. Both ways must give the same patches.
A batch of such videos is decoded by one process and by two.
"""

import json
import statistics
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import av
import numpy as np
import torch

from ktr.data.frame_cache import FrameCache
from ktr.data.loaders import Decoders
from ktr.data.prompts import PromptTemplate
from ktr.data.video import VideoReader, VideoSettings
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.families import make_encoder
from ktr.shapes.tiny_model import COLD_START
from ktr.types import MediaFile, VideoQuestion

SETTINGS = VideoSettings(num_frames=64, max_pixels=128 * 28 * 28, min_pixels=16 * 28 * 28, decode_timeout_s=120)
HEIGHT, WIDTH, RATE, SECONDS = 720, 1280, 30, 30
BATCH = 4


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="ktr-benchmark-") as folder, closing(VideoReader(SETTINGS)) as reader:
        file = MediaFile(write_video(Path(folder, "v.mp4")))
        plain, keeping = (
            make_encoder(COLD_START, PromptTemplate("", {}), reader, 1 << 20, cache=cache)
            for cache in (None, FrameCache(Path(folder, "frames"), 1.0))
        )
        cache, key = keeping.cache, "0" * 32
        assert cache is not None
        if not torch.equal(plain._read(file)[0], keeping._read(file)[0]):  # which keeps the frames
            raise SystemExit("the frames that are kept give other patches")
        resized = keeping._resized(reader.read(file.path))
        assert resized is not None
        seconds = {
            "decode": median(lambda: reader.read(file.path), rounds),
            "decode to patches": median(lambda: plain._read(file), rounds),
            "keep": median(lambda: cache.put(key, resized), rounds),
            "read kept frames": median(lambda: cache.get(key, file.path), rounds),
            "kept frames to patches": median(lambda: keeping._read(file), rounds),
        }
        size = cache._file(key).stat().st_size
        questions = [VideoQuestion("", "what color is first ?", "free-form", "", (file,))] * BATCH
        pool = EncoderPool(plain)
        for num in (1, 2):
            with Decoders(num) as decoders:
                batch = partial(decoders.encode, pool.encode, questions, "train")
                batch()  # starts the decoding processes
                seconds[f"a batch of {BATCH}, {num} decoding"] = median(batch, rounds)
    batches = [value for name, value in seconds.items() if name.startswith("a batch")]
    for name, value in seconds.items():
        sys.stdout.write(f"{name}: {1000 * value:.0f} ms\n")
    ratios = {
        "decode_to_read": seconds["decode"] / seconds["read kept frames"],
        "to_patches": seconds["decode to patches"] / seconds["kept frames to patches"],
        "keep_share_of_decode": seconds["keep"] / seconds["decode"],
        "batch_by_two_decoders": batches[0] / batches[1],
        "decoded_to_kept_bytes": 64 * HEIGHT * WIDTH * 3 / size,
    }
    sys.stdout.write(json.dumps({name: round(value, 3) for name, value in ratios.items()}) + "\n")


def median(call: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return statistics.median(times)


def write_video(path: Path) -> Path:
    """Blocks of random colors that drift."""
    blocks = np.random.default_rng(0).integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    picture = np.kron(blocks, np.ones((16, 16, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for place in range(RATE * SECONDS):
            shown = np.ascontiguousarray(np.roll(picture, (2 * place, 5 * place), (0, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
