"""Three steps of Video-KTR on a family's tiny folder, as from the command line, in this process."""

from pathlib import Path

import pytest

from ktr.config.command_line import check_command_line
from ktr.record.step_table import read_columns
from ktr.training import run


def three_steps(folder: Path, runs: Path, cache: Path, *overrides: str) -> dict[str, tuple[list[int], list[float]]]:
    """The columns of its metrics.csv."""
    (config,) = check_command_line(
        "train",
        [
            f"model.path={folder}",
            f"paths.runs={runs}",
            f"paths.cache={cache}",
            "algorithm=video_ktr",
            "trainer.max_steps=3",
            "data.train.num_questions=12",
            "data.validation.num_questions=2",
            "data.questions_per_step=2",
            "sampling.num_completions=3",
            "sampling.max_tokens=8",
            "probe=none",
            "reward.rewards.format={_target_: tests.even_tokens.ShareOfEvenTokens}",
            *overrides,
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_report", lambda run_dir: None)  # it takes as long as the steps, and no test reads it
        columns = read_columns(run.run_training(config) / "metrics.csv")
    assert columns["loss/total"][0] == [1, 2, 3] and any(columns["loss/total"][1])
    return columns
