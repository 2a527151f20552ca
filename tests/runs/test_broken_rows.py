"""A run on rows that are broken in every way we know ends well, and learns from none of them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.broken_rows import BROKEN, write_media, write_rows
from tests.small_run import Train, finished

NUM_GOOD, STEPS = 6, 6


@pytest.mark.parametrize("algorithm", ["grpo", "sft"])
def test_a_run_on_broken_rows_ends_and_learns_from_the_good_ones(
    algorithm: str, start_training: Train, runs_folder: Path, tmp_path: Path
):
    write_media(tmp_path / "media")
    write_rows(tmp_path / "rows.jsonl", NUM_GOOD, len(BROKEN))
    split = f"annotations: {tmp_path / 'rows.jsonl'}, media_root: {tmp_path / 'media'}"
    target = "{_target_: ktr.data.dataset.QuestionDataset, " + split + "}"
    overrides = ["data=video_r1", f"data.train={target}", f"data.validation={target}", "data.questions_per_step=4"]
    run = runs_folder / "runs" / f"broken-{algorithm}"
    finished(
        start_training(
            [
                *overrides,
                f"name={run.name}",
                f"algorithm={algorithm}",
                "reward.rewards.accuracy.free_form=rouge",
                f"trainer.max_steps={STEPS}",
                *(["callbacks=sft"] if algorithm == "sft" else []),
            ],
            data=False,
        )
    )
    summary = json.loads((run / "summary.json").read_text())
    skips = [json.loads(line) for line in (run / "skips.jsonl").read_text().splitlines()]
    assert summary["num_updates"] == STEPS and summary["skips"] == dict(Counter(skip["kind"] for skip in skips))
    assert {skip["stage"] for skip in skips} == {"rows", "train", "validation"}
    assert all(not skip["id"].startswith("good-") for skip in skips)
    assert summary["accuracy_after"]["greedy"]["n"] == NUM_GOOD
    if algorithm == "grpo":
        rollouts = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
        assert rollouts and all("good" in json.dumps(rollout) for rollout in rollouts)
        assert not any("broken-" in json.dumps(rollout) for rollout in rollouts)
