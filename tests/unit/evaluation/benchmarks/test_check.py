"""What is said of a benchmark before a run, and where its media are looked for."""

from pathlib import Path

import pytest

from ktr.errors import ConfigError, MissingData
from ktr.evaluation.benchmarks.check import check
from ktr.evaluation.benchmarks.item import ItemMedium
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.evaluation.benchmarks.own import OwnBenchmark
from tests.unit.evaluation.benchmarks.conftest import Write, converted


def test_rows_by_subtask_and_media_present_and_missing(write: Write, tmp_path: Path):
    write("media/videos/0.mp4", "x")
    rows = [converted(n, f"./Evaluation/videos/{n}.mp4", original_question_type="ab"[n % 2]) for n in range(3)]
    file = write("rows.json", [*rows, {}])
    found = check(OwnBenchmark(str(file), str(tmp_path / "media"), how_to_get="Get it."))
    table = found.table().splitlines()
    assert [line.split() for line in table[2:5]] == [["a", "2", "1", "1"], ["b", "1", "0", "1"], ["all", "3", "1", "2"]]
    assert "missing: ./Evaluation/videos/1.mp4" in table and "skipped: 1 MalformedRow" in table
    with pytest.raises(MissingData, match=r"2 of 3 items lack media .* Get it\. Or set benchmark\.allow_missing=true"):
        found.require()
    allowed = check(OwnBenchmark(str(file), str(tmp_path / "media"), allow_missing=True))
    assert [item.id for item in allowed.require()] == ["0"]


@pytest.mark.parametrize("path", ["/disk/of/a/b.mp4", "./Evaluation/a/b.mp4", "a/b.webm", "../x/a/b.mp4", "a\\b.mp4"])
def test_the_longest_end_of_a_path_that_exists_is_the_medium(path: str, write: Write, tmp_path: Path):
    right, _ = write("a/b.mp4", "x"), write("b.mp4", "another")
    assert MediaFinder(str(tmp_path)).find(ItemMedium((path,))) == right


def test_an_empty_file_is_missing_and_frames_are_a_folder(write: Write, tmp_path: Path):
    write("empty.mp4", "")
    frames = write("tvqa/clip/00001.jpg", "x").parent
    finder = MediaFinder(str(tmp_path))
    assert finder.find(ItemMedium(("empty.mp4", "no.mp4"))) is None
    assert finder.find(ItemMedium(("video/tvqa/clip",), "frames")) == frames
    assert finder.find(ItemMedium(("tvqa/clip",))) is None and finder.find(ItemMedium(("tvqa/none",), "frames")) is None


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_counts_no_items_is_refused(limit: int):
    with pytest.raises(ConfigError, match=rf"benchmark\.limit={limit}: give 1 or more, or null"):
        OwnBenchmark("rows.json", "media", limit=limit)
