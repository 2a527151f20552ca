"""Rows may be compared if they are the same but for what they are about; what else differs is said, with its values."""

import pytest

from ktr.tables.comparable import compare
from ktr.tables.runs import find_tables
from ktr.tables.values import read_table

from .table_factory import ROWS, write_run, write_table

SEEDS = (0.5, 0.6)


def compared(folder):
    (source,) = find_tables(folder)
    return compare(source)


def test_rows_that_differ_in_their_method_alone_are_comparable(tmp_path):
    comparison = compared(write_table(tmp_path, {"grpo": SEEDS, "vet": SEEDS}))
    assert (comparison.warnings, comparison.notes, comparison.apart) == ([], [], set())


def test_another_budget_is_reported_with_its_key_and_values_and_takes_the_difference_away(tmp_path):
    rows = {**ROWS, "e": ["attribution=e"]}
    write_table(tmp_path, {"grpo": SEEDS, "e": SEEDS}, rows=rows)
    changes = {"trainer.max_steps": 60, "optimizer.total_steps": 60}
    write_table(tmp_path, {"vet": SEEDS}, rows=rows, changes=changes)
    comparison = compared(tmp_path)
    expected = "not comparable: trainer.max_steps (and optimizer.total_steps) is 30 in grpo, e and 60 in vet"
    assert comparison.warnings == [expected] and comparison.apart == {"vet"}
    table = read_table(find_tables(tmp_path)[0])
    differences = {row.name: row.cells["after/greedy"].difference for row in table.rows}
    assert differences["vet"] is None and differences["e"] is not None
    assert any("No difference is given for vet" in note for note in table.notes)


@pytest.mark.parametrize(
    "key", ["data.train.num_questions", "data.questions_per_step", "optimizer.lr", "model.path", "answers.max_tokens"]
)
def test_data_budget_optimizer_model_and_evaluation_must_be_the_same(tmp_path, key):
    write_table(tmp_path, {"grpo": SEEDS})
    write_table(tmp_path, {"vet": SEEDS}, changes={key: 7})
    (warning,) = compared(tmp_path).warnings
    assert key in warning and "7 in vet" in warning


@pytest.mark.parametrize(
    "key",
    [
        "loss.clip_high", "reward.weights.format", "data.transform.probability", "rollout.x",
        "dynamic_sampling.max_batches",
    ],
)  # fmt: skip
def test_what_a_method_is_made_of_may_differ(tmp_path, key):
    write_table(tmp_path, {"grpo": SEEDS})
    write_table(tmp_path, {"vet": SEEDS}, changes={key: 7})
    assert compared(tmp_path).warnings == []


def test_the_optimizer_within_the_algorithm_is_no_part_of_the_method(tmp_path):
    write_table(tmp_path, {"grpo": SEEDS})
    write_table(tmp_path, {"vet": SEEDS}, changes={"algorithm.optimizer.lr": 7})
    assert "algorithm.optimizer.lr" in compared(tmp_path).warnings[0]


def test_a_key_that_a_row_overrides_may_differ_and_so_may_what_takes_its_value_from_it(tmp_path):
    rows = {"video_ktr_16": ["video.num_frames=16"], "video_ktr_32": ["video.num_frames=32"]}
    write_table(tmp_path, {"video_ktr_16": SEEDS}, name="frames", rows=rows)
    frames = {"video.num_frames": 32, "encoder.num_frames": 32}
    write_table(tmp_path, {"video_ktr_32": SEEDS}, name="frames", rows=rows, changes=frames)
    assert compared(tmp_path).warnings == []
    other = tmp_path / "other"
    write_table(other, {"video_ktr_16": SEEDS}, name="frames", rows=rows)
    write_table(other, {"video_ktr_32": SEEDS}, name="frames", rows=rows, changes=frames | {"encoder.num_frames": 64})
    (warning,) = compared(other).warnings
    assert warning == "not comparable: encoder.num_frames is 16 in video_ktr_16 and 64 in video_ktr_32"


def test_a_group_that_a_row_chooses_may_differ(tmp_path):
    rows = {"grpo": ["optimizer=shapes"], "vet": ["optimizer=paper"]}
    write_table(tmp_path, {"grpo": SEEDS}, rows=rows)
    write_table(tmp_path, {"vet": SEEDS}, rows=rows, changes={"optimizer.lr": 7})
    assert compared(tmp_path).warnings == []


def test_a_row_that_is_not_the_same_at_all_seeds_is_reported(tmp_path):
    write_table(tmp_path, {"grpo": SEEDS})
    write_run(tmp_path, "vet", 0)
    write_run(tmp_path, "vet", 1, changes={"loss.beta": 0.04})
    comparison = compared(tmp_path)
    expected = "not comparable: within row vet, loss.beta is not set at seed 0 and 0.04 at seed 1"
    assert comparison.warnings == [expected] and comparison.apart == {"vet"}


def test_a_seed_of_the_data_that_is_not_the_runs_seed_is_a_setting(tmp_path):
    write_table(tmp_path, {"grpo": SEEDS})
    write_table(tmp_path, {"vet": SEEDS}, changes={"data.train.seed": 5})
    assert "data.train.seed is 0 in grpo and 5 in vet" in compared(tmp_path).warnings[0]


def test_rows_of_other_commits_are_not_comparable_and_changes_not_committed_are_noted(tmp_path):
    write_table(tmp_path, {"grpo": SEEDS})
    write_table(tmp_path, {"vet": SEEDS}, record={"git": {"commit": "badcafe" + "0" * 33, "dirty": True}})
    comparison = compared(tmp_path)
    assert comparison.warnings == ["not comparable: code commit is c0ffee1 in grpo and badcafe in vet"]
    assert comparison.apart == {"vet"}
    assert comparison.notes == ["Run with uncommitted changes in the working tree: vet."]


def test_seeds_of_two_commits_are_comparable_if_each_seed_is_of_one(tmp_path):
    for row in ROWS:
        write_run(tmp_path, row, 0)
        write_run(tmp_path, row, 1, record={"git": {"commit": "badcafe" + "0" * 33}})
    comparison = compared(tmp_path)
    assert comparison.warnings == [] and comparison.apart == set()
    assert "badcafe and c0ffee1" in comparison.notes[0]


def test_a_baseline_that_is_unlike_all_others_leaves_no_difference(tmp_path):
    rows = {**ROWS, "e": ["attribution=e"]}
    write_table(tmp_path, {"grpo": SEEDS}, rows=rows, changes={"trainer.max_steps": 60})
    write_table(tmp_path, {"vet": SEEDS, "e": SEEDS}, rows=rows)
    assert compared(tmp_path).apart == {"vet", "e"}


def test_a_baseline_that_is_not_the_same_at_all_seeds_leaves_no_difference_either(tmp_path):
    write_run(tmp_path, "grpo", 0)
    write_run(tmp_path, "grpo", 1, changes={"trainer.max_steps": 60})
    write_table(tmp_path, {"vet": SEEDS})
    assert "vet" in compared(tmp_path).apart
