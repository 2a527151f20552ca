"""The published numbers: complete, and their averages are what their columns give."""

import pytest

from ktr.tables.published import load, published

KEYS = {
    "rl_methods": ("grpo", "t_grpo", "tw_grpo", "video_ktr"),
    "signals": ("grpo", "e", "v", "t", "vt", "et", "ve", "vet"),
    "frames": ("grpo_32", "sft_16", "sft_32", "sft_64", "video_ktr_16", "video_ktr_32", "video_ktr_64"),
    "ratio": ("grpo", "0.1", "0.2", "0.3", "0.4", "0.5"),
    "weighting": ("grpo", "binary", "softmax", "sigmoid", "linear", "exponential"),
    "distance": ("grpo", "logprob", "l1", "js", "cosine", "l2", "kl", "hellinger"),
    "perturbation": ("grpo", "mask_all", "mask_half", "replace", "random", "reverse", "segmental"),
    "video_holmes_subtasks": ("grpo", "t_grpo", "tw_grpo", "video_ktr"),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_table_has_the_papers_rows(name):
    assert tuple(published(name).rows) == KEYS[name]


def test_the_main_table_has_all_sixteen_models():
    table = published("main")
    assert len(table.rows) == 16 and set(table.models) == set(table.rows)
    assert table.models["video_rts"] == "Video-RTS (7B, 51.2 frames)" and table.models["gpt_5"] == "GPT-5"
    assert table.rows["video_ktr_64"]["video_holmes"] == 42.7 and table.rows["video_rts"]["tempcompass"] is None


@pytest.mark.parametrize("name", ["signals", "rl_methods", "frames"])
def test_an_average_is_that_of_its_three_benchmarks_to_rounding(name):
    rows = [row for row in published(name).rows.values() if row["average"] is not None]
    assert rows
    for row in rows:
        three = [row[column] for column in ("video_holmes", "video_mmmu", "mmvu_mc")]
        assert abs(sum(value or 0 for value in three) / 3 - (row["average"] or 0)) <= 0.05 + 1e-9


def test_the_same_run_has_the_same_number_in_every_table():
    vanilla = {
        published(name).rows.get("grpo", {}).get("average") for name in KEYS if "average" in published(name).columns
    }
    assert vanilla - {None} == {51.1}
    full = [("signals", "vet"), ("rl_methods", "video_ktr"), ("frames", "video_ktr_32"), ("ratio", "0.2")]
    full += [("weighting", "binary"), ("distance", "logprob")]
    assert {published(name).rows[row]["average"] for name, row in full} == {53.4}
    assert published("perturbation").rows["mask_all"]["average"] == published("signals").rows["v"]["average"]
    assert published("perturbation").rows["random"]["average"] == published("signals").rows["t"]["average"]
    main, frames = published("main"), published("frames")
    for row in ("sft_16", "sft_32", "sft_64", "video_ktr_16", "video_ktr_32", "video_ktr_64"):
        assert main.rows[row] == {column: frames.rows[row][column] for column in main.columns}


def test_numbers_name_their_source_and_a_table_that_was_not_published_is_empty():
    assert "2601.19686" in load()["source"] and load()["selective_updating"]["grad_norm"]["selected"] == 4.5
    assert published("absent").rows == {} and published("absent").columns == ()
