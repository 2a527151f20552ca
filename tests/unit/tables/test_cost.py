"""Cost: seconds of an update, and training accuracy at equal updates and at equal compute."""

import pytest

from ktr.tables.cost import CPU, WALL, read_cost
from ktr.tables.figures import mean_curve
from ktr.tables.runs import find_tables
from ktr.tables.values import read_table

from .table_factory import write_run, write_steps, write_table

RISING = [step / 100 for step in range(1, 61)]  # training accuracy of update n is n / 100


def cost_of(folder):
    (source,) = find_tables(folder)
    return read_cost(read_table(source))


def test_equal_compute_gives_a_dearer_row_fewer_updates(tmp_path):
    write_run(tmp_path, "grpo", rewards=RISING, seconds=2.0)
    write_run(tmp_path, "vet", rewards=RISING, seconds=3.0)
    cost = cost_of(tmp_path)
    assert cost.updates == 60 and cost.clock == CPU
    assert (cost.rows["grpo"].updates, cost.rows["vet"].updates) == (60, 40)
    assert cost.rows["vet"].relative.mean == 1.5 and cost.rows["vet"].seconds.mean == 3.0
    # the mean of updates 1 to 60 is 0.305 too
    assert cost.rows["vet"].whole_run.by_seed == {0: pytest.approx(0.305)}
    # the mean of updates 41 to 60 is 0.505, that of 21 to 40 is 0.305
    assert cost.rows["vet"].equal_updates.by_seed == {0: pytest.approx(0.505)}
    assert cost.rows["vet"].equal_compute.by_seed == {0: pytest.approx(0.305)}
    assert cost.rows["vet"].equal_updates.difference.mean == pytest.approx(0, abs=1e-12)
    assert cost.rows["vet"].equal_compute.difference.mean == pytest.approx(-0.2)


def test_equal_updates_end_where_the_shortest_run_ends(tmp_path):
    write_run(tmp_path, "grpo", rewards=RISING)
    write_run(tmp_path, "vet", rewards=RISING[:40])
    cost = cost_of(tmp_path)
    assert cost.updates == 40 and cost.rows["grpo"].equal_updates.by_seed == {0: pytest.approx(0.305)}


def test_of_a_step_that_stands_twice_the_last_counts_and_step_0_is_no_update(tmp_path):
    run = write_run(tmp_path, "grpo")
    steps = [(0, 9.0), *((step, 1.0) for step in range(1, 31)), *((step, 2.0) for step in range(21, 31))]
    write_steps(run / "timings.csv", CPU, steps)
    write_steps(run / "metrics.csv", "reward/accuracy", [(0, 9.0), *((step, 0.0) for step in range(1, 31)), (30, 1.0)])
    (row,) = cost_of(tmp_path).rows.values()
    assert row.seconds.mean == pytest.approx((20 * 1 + 10 * 2) / 30)
    assert row.equal_updates.by_seed == {0: pytest.approx(1 / 20)}


def test_wall_time_counts_where_a_run_used_a_gpu_or_has_no_cpu_time(tmp_path):
    for row in ("grpo", "vet"):
        run = write_run(tmp_path, row)
        (run / "timings.csv").write_text("step,train/cpu_seconds,train/step_seconds\n1,5.0,1.0\n2,5.0,3.0\n")
    assert cost_of(tmp_path).clock == CPU
    (tmp_path / "vet-s0" / "timings.csv").write_text("step,train/step_seconds\n1,1.0\n2,3.0\n")
    cost = cost_of(tmp_path)
    assert cost.clock == WALL and cost.rows["grpo"].seconds.mean == 2.0
    write_table(tmp_path / "gpu", {"grpo": (0.5,)}, changes={"trainer.accelerator": "gpu"})
    assert cost_of(tmp_path / "gpu").clock == WALL


def test_training_accuracy_is_no_held_out_accuracy_where_questions_are_met_again(tmp_path):
    write_run(tmp_path, "grpo", changes={"data.train.num_questions": 480})
    assert cost_of(tmp_path).notes == ()
    write_run(tmp_path / "less", "grpo", changes={"data.train.num_questions": 479})
    (note,) = cost_of(tmp_path / "less").notes
    assert "30 updates of grpo take 480 questions of 479" in note
    write_run(tmp_path / "unknown", "grpo", changes={"data.train": {"path": "x"}})
    (note,) = cost_of(tmp_path / "unknown").notes
    assert "doesn't tell" in note


def test_batches_that_dynamic_sampling_took_besides_count_as_met(tmp_path):
    write_run(tmp_path, "grpo", changes={"data.train.num_questions": 2000})
    dapo = write_run(tmp_path, "vet", changes={"data.train.num_questions": 2000, "algorithm.updates_per_rollout": 2})
    lines = ["step,reward/accuracy,rollout/num_batches", *(f"{step},0.5,{8 + step % 4}" for step in range(2, 31, 2))]
    (dapo / "metrics.csv").write_text("\n".join(lines) + "\n")
    (note,) = cost_of(tmp_path).notes
    assert "30 updates of vet take 2176 questions of 2000" in note  # 15 steps of 9.07 batches of 16


def test_a_curve_has_the_seconds_and_the_mean_of_updates_where_a_row_stands_for_two(tmp_path):
    run = write_run(tmp_path, "grpo")
    for file, column, value in (("metrics.csv", "reward/accuracy", 1 / 100), ("timings.csv", CPU, 0.0)):
        write_steps(run / file, column, [(step, step * value or 1.5) for step in range(2, 61, 2)])
    cost = cost_of(tmp_path)
    updates, seconds, accuracy = mean_curve(cost.progress["grpo"])
    assert updates[-1] == 60 and seconds[-1] == 60 * cost.rows["grpo"].seconds.mean == 90.0
    assert accuracy[-1] == pytest.approx(cost.rows["grpo"].equal_updates.by_seed[0]) == pytest.approx(0.51)


def test_a_row_without_updates_has_no_cost_and_takes_none_from_the_others(tmp_path):
    rows = {"sft_16": ["trainer.max_steps=0"], "video_ktr_16": []}
    write_run(tmp_path, "sft_16", rows=rows, changes={"trainer.max_steps": 0}, rewards=[])
    write_run(tmp_path, "video_ktr_16", rows=rows, rewards=RISING)
    cost = cost_of(tmp_path)
    assert cost.updates == 60 and cost.rows["video_ktr_16"].updates == 60
    assert cost.rows["sft_16"].seconds is None and cost.rows["sft_16"].equal_updates.mean is None


def test_rows_that_are_not_comparable_have_a_cost_and_no_difference(tmp_path):
    write_run(tmp_path, "grpo", rewards=RISING)
    write_run(tmp_path, "vet", rewards=RISING, changes={"trainer.max_steps": 7})
    vet = cost_of(tmp_path).rows["vet"]
    assert vet.relative.mean == 1.0 and vet.equal_updates.mean is not None and vet.equal_updates.difference is None
