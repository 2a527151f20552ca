"""W&B and TensorBoard tell of one run, and of each of its steps once, however often it is killed and resumed."""

import json
import os
import re
from pathlib import Path

import psutil
import pytest
import wandb
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as TensorAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.summary.writer import event_file_writer
from wandb.proto.wandb_internal_pb2 import Record

from ktr.errors import ConfigError
from ktr.record.curves import TensorBoardCurves, WandbCurves, finishing
from ktr.record.metrics import METRICS
from ktr.record.metrics_csv import MetricsCSV
from ktr.record.panels import sections
from ktr.record.run_record import run_id, start_run
from ktr.record.wandb_file import cut_history, records

CONFIG = OmegaConf.create({"seed": 0})
NUM_STEPS = 400  # of a part: several of W&B's blocks, the first of which are on disk while it runs
NUM_READS = 5000  # of a part that is waited for, before it counts as lost: tens of seconds


@pytest.fixture(autouse=True)
def writes_are_waited_for(monkeypatch: pytest.MonkeyPatch):
    """W&B's own process writes a little after ``finish``: its last record says how the run ended."""
    finish = WandbCurves.finish

    def finish_and_wait(self: WandbCurves, failed: bool) -> None:
        finish(self, failed)
        wandb.teardown()
        for _ in range(NUM_READS):
            if all(any(record.HasField("exit") for record in read(part)) for part in parts(self._run_dir)[-1:]):
                return
            os.sched_yield()
        pytest.fail(f"W&B ended without a record of the run's end in {self._run_dir}")

    monkeypatch.setattr(WandbCurves, "finish", finish_and_wait)


@pytest.fixture(autouse=True)
def parts_are_told_apart_by_their_names(monkeypatch: pytest.MonkeyPatch):
    """Parts of one second and process are read in the order of a count, as text: it has one digit here."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def log_steps(run_dir: Path, steps: range, resume: bool, loss: float = 1.0, failed: bool = False) -> None:
    """A process that logs ``steps``, validates at the first and the last, and ends."""
    start_run(run_dir, CONFIG, seed=0, resumed_at=steps[0] - 1 if resume else None)
    loggers = [MetricsCSV(run_dir), WandbCurves(run_dir, offline=True), TensorBoardCurves(run_dir)]
    with finishing(loggers):
        for logger in loggers:
            logger.log_hyperparams({"loss": {"beta": loss}, "api_key": "hush"})
        for step in steps:
            validation = [{"val/accuracy": 0.5}] if step in (steps[0], steps[-1]) else []
            for metrics in ({"loss": loss / (step + 1), "train/step_seconds": 1.0}, *validation):
                for logger in loggers:
                    logger.log_metrics(metrics, step)
        if failed:
            raise KeyboardInterrupt


def parts(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda part: part.stat().st_ctime_ns)


def read(part: Path) -> list[Record]:
    return [record for _, record in records(part.read_bytes())]


def rows_of_wandb(run_dir: Path) -> list[dict]:
    rows = [record.history for part in parts(run_dir) for record in read(part) if record.HasField("history")]
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item} for row in rows]


def points_of_tensorboard(run_dir: Path, name: str) -> list[tuple[int, float]]:
    curves = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [(point.step, round(point.value, 6)) for point in curves.Scalars(name)]


def pages_of_tensorboard(run_dir: Path) -> list[Layout]:
    """Those that TensorBoard keeps, once it has purged what a resumed run took back."""
    curves = TensorAccumulator(str(run_dir / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    return [Layout.FromString(event.tensor_proto.string_val[0]) for event in curves.Tensors(CONFIG_SUMMARY_TAG)]


def num_pages_on_disk(run_dir: Path) -> int:
    files = (run_dir / "tensorboard").glob("events.out.tfevents.*")
    values = [value for file in files for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    return sum(value.tag == CONFIG_SUMMARY_TAG for value in values)


def test_tensorboard_has_the_pages_of_the_table_of_panels(tmp_path):
    TensorBoardCurves(tmp_path).log_metrics({"loss/total": 1.0}, 0)
    (layout,) = pages_of_tensorboard(tmp_path)
    assert {category.title: [chart.title for chart in category.chart] for category in layout.category} == {
        section: [panel.title for panel in panels] for section, panels in sections().items()
    }
    parts = ("visual", "temporal", "entropy", "random", "selected", "rest", "x", "role/x")  # what may stand for a *
    known = {row.pattern.replace("*", part) for row in METRICS for part in parts}
    for chart in (chart for category in layout.category for chart in category.chart):
        assert chart.multiline.tag
        for alternative in (one for tag in chart.multiline.tag for one in tag.split("|")):
            # TensorBoard looks for a tag by re.match
            assert any(re.match(alternative, name) for name in known), (chart.title, alternative)


@pytest.mark.parametrize("first", [0, 1])
def test_a_resumed_run_has_the_pages_once(tmp_path, first: int):
    """``first`` is 1 where the held-out accuracy at the start was kept, and not measured again."""
    for step in (first, 3, 5):
        TensorBoardCurves(tmp_path).log_metrics({"loss/total": 1.0}, step)
        assert num_pages_on_disk(tmp_path) == len(pages_of_tensorboard(tmp_path)) == 1
    TensorBoardCurves(tmp_path).log_metrics({"loss/total": 1.0}, 0)  # a fresh run of the same name
    assert len(pages_of_tensorboard(tmp_path)) == 1


@pytest.mark.parametrize(("on_disk", "resumed_at"), [(0.0, 350), (0.5, 50), (0.5, 350), (1.0, 350)])
def test_a_resumed_run_goes_on_in_the_same_run_with_each_step_once(tmp_path, on_disk: float, resumed_at: int):
    log_steps(tmp_path, range(NUM_STEPS), resume=False)
    (part,) = parts(tmp_path)
    with part.open("r+b") as file:  # what a killed process had no time to write
        file.truncate(7 + int(on_disk * (part.stat().st_size - 7)))
    first_id = run_id(tmp_path)
    log_steps(tmp_path, range(resumed_at, NUM_STEPS), resume=True, loss=2.0)

    assert {part.stem for part in parts(tmp_path)} == {f"run-{first_id}"} and len(parts(tmp_path)) == 2
    rows = rows_of_wandb(tmp_path)
    assert [row["_step"] for row in rows] == [row["trainer/global_step"] for row in rows] == [*range(NUM_STEPS)]
    losses = [(1.0 if step < resumed_at else 2.0) / (step + 1) for step in range(NUM_STEPS)]
    assert [row["loss"] for row in rows] == losses
    assert all("train/step_seconds" in row for row in rows) and rows[-1]["val/accuracy"] == 0.5
    assert points_of_tensorboard(tmp_path, "loss") == [(step, round(loss, 6)) for step, loss in enumerate(losses)]
    assert [step for step, _ in points_of_tensorboard(tmp_path, "val/accuracy")][-1] == NUM_STEPS - 1


def test_a_run_killed_after_its_last_step_keeps_it_and_adds_its_validation(tmp_path):
    log_steps(tmp_path, range(5), resume=False)
    start_run(tmp_path, CONFIG, seed=0, resumed_at=4)
    loggers = [MetricsCSV(tmp_path), WandbCurves(tmp_path, offline=True), TensorBoardCurves(tmp_path)]
    with finishing(loggers):
        for logger in loggers:
            logger.log_metrics({"val/accuracy": 0.75}, 4)
    rows = rows_of_wandb(tmp_path)
    assert [row["_step"] for row in rows] == [*range(5)]
    assert (rows[-1]["loss"], rows[-1]["val/accuracy"]) == (0.2, 0.75)
    assert [step for step, _ in points_of_tensorboard(tmp_path, "loss")] == [*range(5)]
    assert points_of_tensorboard(tmp_path, "val/accuracy") == [(0, 0.5), (4, 0.75)]


def test_a_fresh_run_of_the_same_name_is_another_run(tmp_path):
    log_steps(tmp_path, range(5), resume=False)
    first_id = run_id(tmp_path)
    log_steps(tmp_path, range(3), resume=False)
    assert run_id(tmp_path) != first_id and len({part.stem for part in parts(tmp_path)}) == 2
    assert [step for step, _ in points_of_tensorboard(tmp_path, "loss")] == [*range(3)]


def test_the_config_is_sent_without_its_secrets(tmp_path):
    log_steps(tmp_path, range(2), resume=False)
    config = {}
    for record in read(parts(tmp_path)[0]):
        updates = (*record.run.config.update, *record.config.update)
        config |= {item.key or "/".join(item.nested_key): item.value_json for item in updates}
    assert json.loads(config["loss"]) == {"beta": 1.0}
    assert b"hush" not in parts(tmp_path)[0].read_bytes()


def test_the_makers_of_wandb_are_told_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    start_run(tmp_path, CONFIG, seed=0)
    curves = WandbCurves(tmp_path, offline=True)
    with finishing([curves]):
        curves.log_metrics({"loss": 1.0}, 0)
        assert any("--no-observability" in child.cmdline() for child in psutil.Process().children())


@pytest.mark.parametrize("failed", [False, True])
def test_wandb_is_told_how_the_run_ended(tmp_path, failed: bool):
    try:
        log_steps(tmp_path, range(2), resume=False, failed=failed)
    except KeyboardInterrupt:
        assert failed
    ends = [record.exit.exit_code for record in read(parts(tmp_path)[0]) if record.HasField("exit")]
    assert ends == [int(failed)]


def test_a_part_that_the_server_has_is_not_cut(tmp_path):
    log_steps(tmp_path, range(5), resume=False)
    (part,) = parts(tmp_path)
    part.with_name(part.name + ".synced").touch()
    whole = part.read_bytes()
    assert cut_history(part, 2) == 4 and part.read_bytes() == whole


def test_other_ranks_log_nothing(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for logger in (WandbCurves(tmp_path, offline=True), TensorBoardCurves(tmp_path)):
        logger.log_hyperparams({"seed": 0})
        logger.log_metrics({"loss": 1.0}, 1)
        logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_what_wandb_refuses_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"logger.wandb: .*logger.wandb.offline=true"):
        WandbCurves(tmp_path, project="a/b", offline=True).log_metrics({"loss": 1.0}, 1)
