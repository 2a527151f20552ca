"""Questions about one, two and three media train and validate together, on rows of one's own."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ktr.config.command_line import check_command_line
from ktr.record.step_table import read_columns
from ktr.record.token_records import read_records
from ktr.rollout.group_sampler import GroupSampler
from ktr.training import run
from tests.broken_rows import GOOD, write_video

MEDIA: dict[str, Sequence[str]] = {
    "one": ["long.mp4"],
    "two": ["short.mp4", "long.mp4"],
    "mixed": ["red.png", "short.mp4"],
    "three": ["long.mp4", "short.mp4", "red.png"],
    "pictures": ["red.png", "red.png"],
    "torn": ["short.mp4", "text.mp4"],
    "misplaced": ["short.mp4", "long.mp4"],
}
PROBLEMS = {"three": "is <video> like <image> or <video> ?", "misplaced": "<video> <video> <video> ?"}
SKIPPED = {"CorruptMedia": 2, "MisplacedMedia": 1}  # the torn one in training and in validation


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    write_video(folder / "short.mp4", 8)
    write_video(folder / "long.mp4", 16)
    Image.new("RGB", (56, 56), "red").save(folder / "red.png")
    (folder / "text.mp4").write_text("no video")
    listed = [
        GOOD | {"problem_id": name, "path": paths, "problem": PROBLEMS.get(name, GOOD["problem"])}
        for name, paths in MEDIA.items()
    ]
    (folder / "rows.json").write_text(json.dumps(listed))
    return folder / "rows.json"


@pytest.mark.parametrize("algorithm", ["video_ktr", "t_grpo"])
def test_questions_of_several_media_are_trained_and_validated(
    algorithm: str, rows: Path, policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    groups = []
    generate = GroupSampler.generate
    monkeypatch.setattr(GroupSampler, "generate", lambda *given: groups.extend(made := generate(*given)) or made)
    if algorithm == "t_grpo":  # the report of one of the two is enough
        monkeypatch.setattr(run, "write_report", lambda run_dir: None)
    (config,) = check_command_line(
        "train",
        [
            f"algorithm={algorithm}",
            f"model.path={policy_folder}",
            "data=own",
            f"data.validation.rows={rows}",
            "data.questions_per_step=5",
            f"paths.runs={tmp_path}",
            "video.num_frames=4",
            "sampling.num_completions=2",
            "sampling.max_tokens=6",
            "trainer.max_steps=2",
            "probe=none",
            "reward.rewards.format={_target_: tests.even_tokens.ShareOfEvenTokens}",
        ],
    )
    run_dir = run.run_training(config)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["num_updates"] == 2 and summary["skips"] == SKIPPED
    assert summary["accuracy_after"]["greedy"]["n"] == 5
    assert all(read_columns(run_dir / "metrics.csv")["loss/total"][1])
    asked = {group.question.id: group for group in groups}
    assert set(asked) == set(MEDIA) - {"torn", "misplaced"}
    contrasted = {name for name, group in asked.items() if group.contrast}
    assert contrasted == (set(asked) - {"pictures"} if algorithm == "t_grpo" else set())
    for record in read_records(run_dir / "rollouts.jsonl"):
        paths = [record["media"]] if isinstance(record["media"], str) else record["media"]
        names = [Path(path).name for path in paths]
        assert sorted(names) == sorted(MEDIA[record["question"]])
        if record["question"] == "three":
            assert names == ["long.mp4", "red.png", "short.mp4"] and record["data_type"] == ["video", "image", "video"]
        if record["question"] == "pictures" and record["scores"]:
            assert any(record["scores"]["visual"]) and not any(record["scores"]["temporal"])
