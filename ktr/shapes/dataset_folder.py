"""The world as a data set on disk: mp4 files and rows in the Video-R1 format, written once into the cache folder."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from dataclasses import asdict
from pathlib import Path

from ktr.console.progress_line import track
from ktr.data.dataset import QuestionDataset
from ktr.errors import naming
from ktr.shapes.example import Mixture, draw_example
from ktr.shapes.video_file import write_video
from ktr.shapes.world import WorldSettings

log = logging.getLogger(__name__)

FORMAT_VERSION = 1  # raise it when the same settings come to mean other files
ROWS = "rows.json"


class ShapesDataset(QuestionDataset):
    """Questions about the world's videos, generated at the first use and read like any data set from then on.

    Args:
        split: name of the part; parts share no question.
        num_questions: number of rows, one video each.
        seed: with the split and the row's number, decides the row.
        cache: folder below which data sets are kept.
        world: size of the videos.
        mixture: which questions are asked and who writes their reasoning.
    """

    def __init__(
        self, split: str, num_questions: int, seed: int, cache: str | Path, world: WorldSettings, mixture: Mixture
    ) -> None:
        folder = write_dataset(split, num_questions, seed, Path(cache), world, mixture)
        super().__init__(folder / ROWS, folder)


def dataset_folder(
    split: str, num_questions: int, seed: int, cache: Path, world: WorldSettings, mixture: Mixture
) -> Path:
    """Where a data set lies: the name holds a digest of all that its files depend on."""
    settings = json.dumps(_settings(split, num_questions, seed, world, mixture), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    return cache.expanduser() / "shapes" / f"{split}-{world.num_frames}f-{num_questions}-{digest}"


def write_dataset(
    split: str, num_questions: int, seed: int, cache: Path, world: WorldSettings, mixture: Mixture
) -> Path:
    """The data set's folder, written if it is not there yet or has lost a file since.

    It appears under its name only when complete, so that a reader never sees half of it; of two processes that write
    the same one, the second leaves the first one's files in place. Files of a damaged one are replaced one by one.
    """
    folder = dataset_folder(split, num_questions, seed, cache, world, mixture)
    if _is_whole(folder, num_questions):
        return folder
    log.info("writing %d videos to %s", num_questions, folder)
    with naming(folder):
        _write(split, num_questions, seed, folder, world, mixture)
    return folder


def _write(split: str, num_questions: int, seed: int, folder: Path, world: WorldSettings, mixture: Mixture) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (partial / "videos").mkdir()
        rows = []
        for index in track(range(num_questions), "write videos", num_questions):
            example = draw_example((zlib.crc32(split.encode()), seed, index), world, mixture)
            path = f"./videos/{index:06d}.mp4"
            write_video(example.frames(world), partial / path, world.fps)
            rows.append(example.row(index, path))
        (partial / ROWS).write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        settings = _settings(split, num_questions, seed, world, mixture)
        (partial / "settings.json").write_text(json.dumps(settings, indent=1, sort_keys=True))
        partial.chmod(0o755)  # mkdtemp's folders are private
        _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # anything but that it is there: damaged, or of a process that was faster
            raise
        if not _is_whole(folder, len(list((partial / "videos").iterdir()))):
            (folder / "videos").mkdir(exist_ok=True)
            for file in [path for path in partial.rglob("*") if path.is_file()]:
                os.replace(file, folder / file.relative_to(partial))


def _is_whole(folder: Path, num_questions: int) -> bool:
    """Whether the rows are all there, and each with its video. What is wrong inside a video is told when it is read."""
    try:
        rows = json.loads((folder / ROWS).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return len(rows) == num_questions and all((folder / row["path"]).is_file() for row in rows)


def _settings(split: str, num_questions: int, seed: int, world: WorldSettings, mixture: Mixture) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "split": split,
        "num_questions": num_questions,
        "seed": seed,
        "world": asdict(world),
        "mixture": {**asdict(mixture), "kind_shares": dict(mixture.kind_shares)},
    }
