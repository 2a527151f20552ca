"""The best checkpoint is the best of those that were kept, by held-out accuracy."""

from pathlib import Path

import pytest

from ktr.errors import MissingData
from ktr.export.chosen_weights import Weights, choose_weights


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A run that kept the checkpoints of updates 20, 40 and 60."""
    for step in (20, 40, 60):
        (tmp_path / "checkpoints" / f"step-{step:06}").mkdir(parents=True)
    return tmp_path


CONFIG = {"paths": {"run_dir": "elsewhere/run"}}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ("val/greedy/accuracy,val/sampled/accuracy\n20,.5,.9\n40,.7,.1\n60,.6,.2\n", 40),
        ("val/greedy/accuracy\n10,.9\n20,.5\n40,.7\n60,.7\n", 60),  # what was not kept is no choice; of equals the last
        ("val/vote/accuracy\n20,.7\n", 20),
    ],
)
def test_best_is_by_greedy_answers_where_there_are_any(kept: Path, rows: str, best: int):
    (kept / "metrics.csv").write_text(f"step,{rows}")
    assert choose_weights(kept, CONFIG, "best") == Weights(kept / "checkpoints" / f"step-{best:06}", best)


def test_without_a_measured_one_there_is_no_best(kept: Path):
    with pytest.raises(MissingData, match=r"--checkpoint best: .*metrics\.csv has no .* of updates 20, 40, 60"):
        choose_weights(kept, CONFIG, "best")


def test_the_last_is_found_and_one_by_its_number(kept: Path):
    assert [choose_weights(kept, CONFIG, name).step for name in ("last", "20")] == [60, 20]


@pytest.mark.parametrize("checkpoint", ["best", "last", "20", "no/such/folder"])
def test_a_run_that_kept_none_says_so(tmp_path: Path, checkpoint: str):
    with pytest.raises(MissingData, match=rf"--checkpoint {checkpoint}: .* has those of updates none"):
        choose_weights(tmp_path, CONFIG, checkpoint)


@pytest.mark.parametrize("suffix", [".partial", ".removed"])
def test_a_checkpoint_that_was_not_written_to_its_end_is_not_exported(kept: Path, suffix: str):
    folder = (kept / "checkpoints" / "step-000040").rename(kept / "checkpoints" / f"step-000040{suffix}")
    (folder / "config.json").touch()
    with pytest.raises(MissingData, match=rf"--checkpoint {folder}: it was not written to its end.* or last$"):
        choose_weights(kept, CONFIG, str(folder))


def test_a_folder_says_its_update_where_it_is_called_by_it(kept: Path):
    for name, step in (("step-000040", 40), ("step-40-mine", None), ("mine", None)):
        folder = kept / "checkpoints" / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").touch()
        assert choose_weights(kept, CONFIG, str(folder)) == Weights(folder, step)
