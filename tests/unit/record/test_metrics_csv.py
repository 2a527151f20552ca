"""metrics.csv: one row for each step, and the same bytes whether or not the run was killed."""

import pytest

from ktr.record.metrics_csv import MetricsCSV
from ktr.record.step_table import read_columns

NUM_STEPS = 7


def log_steps(run_dir, steps):
    """A new process that logs ``steps``; every third step validates, as a second call at the same step."""
    logger = MetricsCSV(run_dir)
    for step in steps:
        logger.log_metrics({"loss": 0.1 * step + 1e-9, "reward/total": 1 / step}, step=step)
        if step % 3 == 0:
            logger.log_metrics({"val/greedy/accuracy": step / 7}, step=step)
    return (run_dir / "metrics.csv").read_bytes()


@pytest.mark.parametrize("killed_at", range(1, NUM_STEPS + 1))
@pytest.mark.parametrize("steps_lost", [0, 1, 3])
def test_a_killed_and_resumed_run_leaves_the_bytes_of_one_never_killed(tmp_path, killed_at, steps_lost):
    uninterrupted = log_steps(tmp_path / "whole", range(1, NUM_STEPS + 1))
    restored = max(0, killed_at - steps_lost)
    log_steps(tmp_path / "killed", range(1, killed_at + 1))
    if restored < NUM_STEPS:
        log_steps(tmp_path / "killed", range(restored + 1, NUM_STEPS + 1))
    assert (tmp_path / "killed/metrics.csv").read_bytes() == uninterrupted


def test_a_row_torn_by_the_kill_is_dropped(tmp_path):
    uninterrupted = log_steps(tmp_path / "whole", range(1, 5))
    log_steps(tmp_path / "torn", range(1, 4))
    path = tmp_path / "torn/metrics.csv"
    path.write_bytes(path.read_bytes()[:-4])
    assert log_steps(tmp_path / "torn", range(3, 5)) == uninterrupted


def test_each_row_is_on_disk_when_it_is_logged(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in range(1, 4):
        logger.log_metrics({"loss": 0.1 * step}, step=step)
        assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + step


def test_floats_read_back_exactly_and_columns_are_sorted(tmp_path):
    MetricsCSV(tmp_path).log_metrics({"b": 0.1 + 0.2, "a": 1e-17}, step=1)
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,1e-17,0.30000000000000004\n"
    assert read_columns(tmp_path / "metrics.csv") == {"a": ([1], [1e-17]), "b": ([1], [0.1 + 0.2])}


def test_a_new_name_widens_the_header_and_leaves_other_rows_empty(tmp_path):
    log_steps(tmp_path, range(1, 4))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0] == "step,loss,reward/total,val/greedy/accuracy"
    assert rows[1].endswith(",") and not rows[3].endswith(",")


def test_what_the_clock_says_stands_in_a_file_of_its_own(tmp_path):
    metrics = {"loss": 1.0, "train/tokens_per_second": 9.0, "train/step_seconds": 2.0}
    MetricsCSV(tmp_path).log_metrics(metrics, step=1)
    assert set(read_columns(tmp_path / "metrics.csv")) == {"loss"}
    assert set(read_columns(tmp_path / "timings.csv")) == {"train/tokens_per_second", "train/step_seconds"}


def test_metrics_without_a_step_are_refused(tmp_path):
    with pytest.raises(ValueError, match="step="):
        MetricsCSV(tmp_path).log_metrics({"loss": 1.0})
