"""How far a sweep is follows from the folders of its jobs alone."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ktr.sweep.progress import SweepProgress


def write(folder: Path, num_updates: int, finished: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "timings.csv").write_text(
        "step,train/step_seconds\n" + "".join(f"{step},1.0\n" for step in range(1, num_updates + 1))
    )
    if finished:
        (folder / "summary.json").write_text("{}")


def jobs(tmp_path: Path, *names: str):
    return [
        OmegaConf.create({"paths": {"run_dir": str(tmp_path / name)}, "trainer": {"max_steps": 10}}) for name in names
    ]


def test_updates_are_those_in_the_folders_and_a_finished_run_is_whole(tmp_path: Path):
    sweep = SweepProgress(jobs(tmp_path, "waiting", "running", "finished", "copied"))
    write(tmp_path / "running", 4)
    write(tmp_path / "finished", 10, finished=True)
    write(tmp_path / "copied", 0, finished=True)
    assert sweep.num_updates() == 0 + 4 + 10 + 10


def test_the_last_line_says_how_it_ended_however_short_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with SweepProgress(jobs(tmp_path, "short")):
        write(tmp_path / "short", 10, finished=True)
    assert capsys.readouterr().err.splitlines()[-1].endswith("1 of 1 runs finished")


def test_a_run_that_falls_back_to_its_checkpoint_does_not_turn_the_clock_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write(tmp_path / "resumed", 9)
    looks = iter([lambda: write(tmp_path / "resumed", 6), lambda: write(tmp_path / "resumed", 10, finished=True)])
    sweep = SweepProgress(jobs(tmp_path, "resumed"), seconds_between_lines=0.0)

    def look(seconds: float) -> bool:
        if (change := next(looks, None)) is None:
            return True
        change()
        return False

    monkeypatch.setattr(sweep._ended, "wait", look)
    sweep._watch()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["9/10", "10/10", "10/10", "10/10"]
    assert not any("-" in line for line in lines) and "1 of 1 runs finished" in lines[-1]
