"""What a study refuses before a policy is loaded."""

from pathlib import Path

import pytest

from ktr.errors import ConfigError
from tests.small_study import run

VISUAL = (
    "{_target_:ktr.algorithm.weighting.KeyTokens,signals:{v:{_target_:ktr.attribution.signals.VisualSignal}},"
    "selection:{_target_:ktr.attribution.selection.TopRatio}}"
)


def test_a_reward_that_counts_selected_tokens_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="pays after a selection"):
        run(tmp_path, "reward=video_r1", "reward.rewards.length.count=selected")


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
