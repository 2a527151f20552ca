"""A small study of the shipped cold start."""

import json
from pathlib import Path

import pytest

from ktr.errors import MissingData
from tests.small_study import run


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


def test_without_a_label_there_are_the_rules_alone(tmp_path: Path):
    _, folder = run(tmp_path, "label=null")
    rules = json.loads((folder / "study.json").read_text())["rules"]["gradient"]
    assert list(rules["kinds"]) == ["other words"] and rules["oracles"] == {} and len(rules["signals"]) == 7


def test_a_reward_that_compares_with_shuffled_frames_has_them(tmp_path: Path):
    contrast = "+reward/part=temporal_contrast"
    plain, compared = (
        json.loads((run(tmp_path, f"name={name}", *given)[1] / "study.json").read_text())["mean_reward"]
        for name, given in (("plain", []), ("compared", [contrast, "reward.rewards.temporal_contrast.threshold=0.0"]))
    )
    assert compared > plain


def test_a_policy_whose_rewards_are_all_equal_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(MissingData, match="every group has completions of equal reward"):
        run(tmp_path, "sampling.max_tokens=1", "attribution=none")
