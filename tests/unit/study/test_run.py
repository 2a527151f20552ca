"""A small study of the shipped cold start, and what is refused."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.errors import ConfigError, MissingData
from ktr.study.run import run_study

SMALL = [
    "num_groups=8", "data.questions_per_step=1", "data.train.num_questions=8", "data.validation.num_questions=1",
    "data.num_decoders=0", "sampling.num_completions=4", "sampling.max_tokens=48", "ratios=[0.5]",
]  # fmt: skip
VISUAL = (
    "{_target_:ktr.algorithm.weighting.KeyTokens,signals:{v:{_target_:ktr.attribution.signals.VisualSignal}},"
    "selection:{_target_:ktr.attribution.selection.TopRatio}}"
)


def run(folder: Path, *overrides: str) -> tuple[str, Path]:
    config = compose("study", [*SMALL, f"paths.runs={folder}", f"paths.cache={folder}/cache", *overrides])
    OmegaConf.resolve(config)
    return run_study(config)


def test_a_small_study_says_all_there_is_and_kinds_add_up(tmp_path: Path):
    table, folder = run(tmp_path)
    assert table.count("visual+entropy+temporal") == 2 and "8 groups of 4" in table
    found = json.loads((folder / "study.json").read_text())
    assert found["parts_error"] < 1e-5 and 0 < found["num_teaching"] <= 8
    for metric in ("gradient", "adamw"):
        rules = found["rules"][metric]
        assert set(rules) == {"kinds", "signals", "controls", "others", "oracles", "curve", "whole"}
        assert sum(of["signal"]["value"] for of in rules["kinds"].values()) == pytest.approx(1, abs=1e-4)
    shares = found["token_shares"]
    assert sum(shares[kind] for kind in found["rules"]["gradient"]["kinds"]) == pytest.approx(1)
    assert shares["other words"] == 0 and shares["tags"] > 0 and shares["end"] > 0
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"table.md", "report.html", "figures/shares.png", "figures/curve.png", "record.json"} <= written
    assert 'src="http' not in (folder / "report.html").read_text()


def test_a_reward_that_compares_with_shuffled_frames_has_them(tmp_path: Path):
    contrast = "+reward/part=temporal_contrast"
    plain, compared = (
        json.loads((run(tmp_path, f"name={name}", *given)[1] / "study.json").read_text())["mean_reward"]
        for name, given in (("plain", []), ("compared", [contrast, "reward.rewards.temporal_contrast.threshold=0.0"]))
    )
    assert compared > plain


def test_a_reward_that_counts_selected_tokens_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="pays after a selection"):
        run(tmp_path, "reward=video_r1", "reward.rewards.length.count=selected")


def test_a_policy_whose_rewards_are_all_equal_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(MissingData, match="every group has completions of equal reward"):
        run(tmp_path, "sampling.max_tokens=1", "attribution=none")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("num_groups=7", "num_groups=7: an interval needs 8 batches of 1 groups"),
        ("num_groups=9", "the training data has 8 questions"),
        ("advantage=token_baseline", "a study takes advantages of completions"),
        ("kinds=[tags]", "oracles: answer is none of kinds"),
        ("weighting=group_divergence attribution=none", "take weighting=key_tokens"),
        ("weighting=reasoning_tokens", "take weighting=key_tokens, and others.<name>"),
        ("weighting=random_tokens", "take weighting=key_tokens, and others.<name>"),
        ("+others.x={_target_:ktr.algorithm.entropy_minority.BatchEntropy}", "others.x: it weighs a batch as a whole"),
        (f"+others.x={VISUAL} attribution=e", "others.x: it compares with views that no signal"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_a_policy_is_loaded(override: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, *override.split())
