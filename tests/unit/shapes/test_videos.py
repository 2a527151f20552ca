"""Laws of the pictures: what is asked about can be seen in the decoded file, and only across temporal patches."""

import shutil
import zlib
from dataclasses import asdict

import numpy as np
import pytest

from ktr.data.video import VideoReader, VideoSettings
from ktr.shapes.dataset_folder import ShapesDataset, dataset_folder, write_dataset
from ktr.shapes.example import Mixture, draw_example
from ktr.shapes.questions import LETTERS
from ktr.shapes.render import render
from ktr.shapes.video_file import write_video
from ktr.shapes.world import COLORS, DIRECTIONS, SHAPES, Event, WorldSettings, sample_scene

WORLD = WorldSettings()
PALETTE = np.array(list(COLORS.values()))
PIXELS = 56 * 56


def nearest_colors(pixels_NC: np.ndarray) -> list[str]:
    distances = ((pixels_NC[:, None].astype(int) - PALETTE[None]) ** 2).sum(-1)
    return [list(COLORS)[i] for i in distances.argmin(1)]


def foreground(frame_HWC: np.ndarray) -> np.ndarray:
    return frame_HWC.max(-1) > 120


@pytest.fixture(scope="module")
def reader():
    # By decord alone: the fast way is for these files as well.
    reader = VideoReader(VideoSettings(num_frames=16, max_pixels=PIXELS, min_pixels=PIXELS, backends=("decord",)))
    yield reader
    reader.close()


@pytest.mark.parametrize("num_frames, max_events", [(16, 4), (32, 4), (32, 6), (64, 6)])
def test_an_event_stands_still_inside_a_patch_and_moves_across_patches(num_frames, max_events):
    world = WorldSettings(num_frames=num_frames, max_events=max_events, min_events=3)
    scene = sample_scene(np.random.default_rng(0), world)
    frames = render(scene, world, np.random.default_rng(1))
    assert frames.shape == (num_frames, 56, 56, 3)
    patches = frames.reshape(-1, 2, 56, 56, 3)
    assert (patches[:, 0] == patches[:, 1]).all()
    assert world.patches_per_event >= 2
    for index, event in enumerate(scene):
        first = index * world.patches_per_event
        shown = [foreground(patches[first + i, 0]) for i in range(world.patches_per_event)]
        centers = [np.argwhere(mask).mean(0)[::-1] for mask in shown]
        moved = centers[-1] - centers[0]
        step = np.array(DIRECTIONS[event.direction])
        assert moved @ step > 15 and abs(moved @ step[::-1]) < 8
    rest = patches[len(scene) * world.patches_per_event :, 0]
    assert not rest.size or not foreground(rest).any()


def test_colours_and_shapes_survive_the_file(tmp_path, reader):
    events = [Event(color, shape, "left") for color in COLORS for shape in SHAPES]
    for start in range(0, len(events), 4):
        scene = tuple(events[start : start + 4])
        frames = render(scene, WORLD, np.random.default_rng(start))
        write_video(frames, tmp_path / "scene.mp4", WORLD.fps)
        decoded = reader.read(tmp_path / "scene.mp4").frames_FHWC
        assert decoded.shape == frames.shape
        for index, event in enumerate(scene):
            for frame in range(4 * index, 4 * index + 4):
                mask = foreground(frames[frame])
                colors = nearest_colors(decoded[frame][mask])
                assert colors.count(event.color) >= 0.95 * len(colors)
                assert (foreground(decoded[frame]) == mask).mean() > 0.98


def test_a_temporal_patch_lasts_one_second(tmp_path, reader):
    rng = np.random.default_rng(0)
    write_video(render(sample_scene(rng, WORLD), WORLD, rng), tmp_path / "v.mp4", WORLD.fps)
    assert reader.read(tmp_path / "v.mp4").seconds_per_temporal_patch() == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first, again, other = (
        write_dataset("train", 6, seed, tmp_path / name, WORLD, Mixture())
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 6 + 2
    for path in files:
        assert (first / path).read_bytes() == (again / path).read_bytes()
    assert (first / "rows.json").read_bytes() != (other / "rows.json").read_bytes()


def test_the_splits_of_a_seed_share_no_question(tmp_path):
    rows = [(write_dataset(split, 6, 0, tmp_path, WORLD, Mixture()) / "rows.json").read_text() for split in ("a", "b")]
    assert not set(rows[0].splitlines()[1:-1]) & set(rows[1].splitlines()[1:-1])


def test_the_folder_is_named_after_all_that_its_files_depend_on(tmp_path):
    base = ("train", 10, 0, tmp_path, WORLD, Mixture())
    others = [
        ("validation", *base[1:]),
        ("train", 11, *base[2:]),
        ("train", 10, 1, *base[3:]),
        (*base[:4], WorldSettings(fps=4.0), Mixture()),
        (*base[:5], Mixture(multiple_choice=0.5)),
    ]
    assert len({dataset_folder(*settings) for settings in (base, *others)}) == 6


def test_a_complete_folder_is_read_again_and_not_written_again(tmp_path):
    folder = write_dataset("train", 3, 0, tmp_path, WORLD, Mixture())
    (folder / "videos" / "000000.mp4").write_bytes(b"mark")
    assert write_dataset("train", 3, 0, tmp_path, WORLD, Mixture()) == folder
    assert (folder / "videos" / "000000.mp4").read_bytes() == b"mark"


@pytest.mark.parametrize("damaged", ["videos/000001.mp4", "rows.json", "videos", "rows.json, torn"])
def test_a_data_set_that_lost_a_file_is_whole_again(tmp_path, damaged: str):
    folder = write_dataset("train", 3, 0, tmp_path, WORLD, Mixture())
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
    path = folder / damaged.partition(",")[0]
    if path.is_dir():
        shutil.rmtree(path)
    elif "torn" in damaged:
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    assert write_dataset("train", 3, 0, tmp_path, WORLD, Mixture()) == folder
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")} == files
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_could_not_be_finished_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("ktr.shapes.dataset_folder.write_video", fail)
    with pytest.raises(OSError, match="disk full"):
        write_dataset("train", 3, 0, tmp_path, WORLD, Mixture())
    assert not [path for path in tmp_path.rglob("*") if path.name != "shapes"]


def test_rows_are_read_by_the_same_reader_as_any_data_set(tmp_path, reader):
    mixture = Mixture(multiple_choice=0.5)
    dataset = ShapesDataset("train", 12, 0, tmp_path, WORLD, mixture)
    assert len(dataset) == 12 and not dataset.skips
    for index, question in enumerate(dataset.questions):
        example = draw_example((zlib.crc32(b"train"), 0, index), WORLD, mixture)
        assert question.problem == example.question.text
        assert question.answer == example.question.answer
        assert question.category == example.question.kind
        assert question.extra["scene"] == [asdict(event) for event in example.scene]
        assert question.extra["process_roles"] == [str(role) for role in example.process_roles]
        assert bool(question.options) == (question.answer in LETTERS)
    assert reader.read(dataset.questions[0].media[0].path).frames_FHWC.shape == (16, 56, 56, 3)
