"""Training rows and a benchmark that share some of their videos, names and questions."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

CHOICE = {"problem_type": "multiple choice", "solution": "<answer>A</answer>"}
FREE = {"problem_type": "free-form", "solution": "<answer>red</answer>"}


def write_scene(path: Path, seed: int, size: int = 64, rate: int = 8, crf: str = "20") -> None:
    """A square that wanders over blocks; ``seed`` decides both."""
    draw = np.random.default_rng(seed)
    blocks = np.kron(draw.integers(60, 200, (4, 4, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": crf})
        stream.height, stream.width, stream.pix_fmt = size, size, "yuv420p"
        for time in range(2 * rate):
            frame, place = blocks.copy(), int(48 * time / (2 * rate))
            frame[place : place + 14, 10 * (seed % 5) : 10 * (seed % 5) + 14] = 255
            frame = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below it train.json and train/, bench.json and bench/."""
    root = tmp_path_factory.mktemp("duplicates")
    for seed, name in enumerate(("a", "b", "c", "d")):
        write_scene(root / "train" / f"{name}.mp4", seed)
    (root / "bench").mkdir()
    shutil.copy(root / "train" / "a.mp4", root / "bench" / "x.mp4")
    write_scene(root / "bench" / "y.mp4", 1, size=96, crf="32")  # b in another size, and poorer
    write_scene(root / "bench" / "deep" / "C.mp4", 7)
    write_scene(root / "bench" / "z.mp4", 8)
    rows: list[dict[str, Any]] = [
        FREE | {"problem": "What is shown first in a?", "path": "a.mp4"},
        FREE | {"problem": "Who stands behind the door there?", "path": "b.mp4"},
        FREE | {"problem": "Why is it so dark in that room?", "path": "c.mp4"},
        CHOICE | {"problem": "Which of them is it?", "options": ["A. a red ball", "B. a blue cube"], "path": "d.mp4"},
        CHOICE | {"problem": "which of them is it", "options": ["(A) A blue cube", "(B) a red ball!"], "path": "e.mp4"},
        FREE | {"problem": "Where does the second one go to?", "path": "d.mp4"},
        {"problem": "no answer", "path": "a.mp4"},
    ]  # fmt: skip
    items: list[dict[str, Any]] = [
        FREE | {"problem": "How many are there?", "path": "x.mp4"},
        FREE | {"problem": "How long does it last?", "path": "x.mp4"},
        FREE | {"problem": "What color has it?", "path": "y.mp4"},
        FREE | {"problem": "What comes after that?", "path": "deep/C.mp4"},
        CHOICE | {"problem": "Which of them is it?", "options": ["A. a blue cube", "B. a red ball"], "path": "z.mp4"},
        CHOICE | {"problem": "Which of them is it?", "options": ["A. nobody", "B. somebody"], "path": "lost.mp4"},
    ]  # fmt: skip
    for name, of_file in (("train", rows), ("bench", items)):
        numbered = [row | {"problem_id": f"{name[0]}{number}"} for number, row in enumerate(of_file)]
        (root / f"{name}.json").write_text(json.dumps(numbered))
    return root


@pytest.fixture
def given(data: Path, tmp_path: Path) -> list[str]:
    """A command line about them."""
    files = f"annotations: {data}/bench.json, media_root: {data}/bench"
    return [
        "data=video_r1", f"data.train.annotations={data}/train.json", f"data.train.media_root={data}/train",
        f"benchmarks=[{{name: own, {files}}}]", f"paths.cache={tmp_path}/cache", f"output={tmp_path}/duplicates.jsonl",
        "search.num_decoders=1",
    ]  # fmt: skip
