"""With W&B, rollouts are a table of it every n updates: in the row of their step, with their tokens coloured."""

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import wandb
from lightning.pytorch import LightningModule, Trainer
from omegaconf import OmegaConf

from ktr.config.composing import compose
from ktr.record.curves import WandbCurves, finishing
from ktr.record.metrics_csv import MetricsCSV
from ktr.record.rollout_log import RolloutLog
from ktr.record.run_record import start_run
from ktr.record.step_output import StepOutput
from ktr.record.wandb_file import records
from ktr.training.rollout_table import RolloutTable
from tests.unit.record.conftest import decode, make_experience, make_scores, make_weights, scored_group

SIGNALS = ("visual", "temporal")


@pytest.fixture(autouse=True)
def wandb_keeps_to_the_folder(monkeypatch: pytest.MonkeyPatch):
    """As in a process of its own, which no other run has told where to."""
    monkeypatch.setenv("WANDB_DATA_DIR", "")
    monkeypatch.delenv("WANDB_DATA_DIR")


def run_batches(run_dir: Path, loggers: list[Any], steps: range, every_n_steps: int = 2, log_every: int = 1) -> None:
    """What Lightning does with the observers of batches that end after ``steps`` updates."""
    log = RolloutLog(run_dir / "rollouts.jsonl", every_n_steps=log_every, max_completions=3)
    callbacks = [log, RolloutTable(every_n_steps)]
    trainer, module = MagicMock(Trainer), MagicMock(LightningModule)
    trainer.callbacks, trainer.loggers = callbacks, loggers
    module.policy = SimpleNamespace(decode_tokens=decode)
    for step in steps:
        trainer.global_step = step - steps.step
        for callback in callbacks:
            callback.on_train_batch_start(trainer, module, None, 0)
        trainer.global_step = step
        experiences = [make_experience("a"), make_experience("b")]
        learned = scored_group(experiences[1], make_scores(), make_weights(SIGNALS))
        for callback in callbacks:
            callback.on_train_batch_end(trainer, module, {"output": StepOutput(experiences, [learned], {})}, None, 0)
        for logger in loggers:  # Lightning logs a step behind its callbacks
            logger.log_metrics({"loss": 1.0 / step}, step)


def train(run_dir: Path, steps: range, **settings: int) -> None:
    """A process that ends."""
    resumed_at = None if steps[0] == steps.step else steps[0] - steps.step
    start_run(run_dir, OmegaConf.create({"seed": 0}), seed=0, resumed_at=resumed_at)
    loggers = [MetricsCSV(run_dir), WandbCurves(run_dir, offline=True)]
    with finishing(loggers):
        run_batches(run_dir, loggers, steps, **settings)
    wandb.teardown()  # its own process has written all


def rows(run_dir: Path) -> list[dict[str, Any]]:
    parts = sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda part: part.stat().st_ctime_ns)
    found = [record.history for part in parts for _, record in records(part.read_bytes()) if record.HasField("history")]
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item} for row in found]


def tables(run_dir: Path) -> dict[int, Any]:
    """The tables by the step of their row; ``text`` of each is the kind of its cells."""
    return {
        row["_step"]: json.loads(next(run_dir.glob(f"wandb/*/files/{row['rollouts/path']}")).read_text())
        for row in rows(run_dir)
        if "rollouts/path" in row
    }


def kept(run_dir: Path) -> dict[str, str]:
    """What ``wandb sync`` would send beside, tables with their cells and the cells, by checksum."""
    files = (run_dir / "wandb" / "artifacts" / "staging").iterdir()
    return {sha256(file.read_bytes()).hexdigest(): file.read_text() for file in files}


def test_a_table_holds_what_the_step_logged_and_the_report_colours(tmp_path: Path):
    train(tmp_path, range(1, 5))
    found = tables(tmp_path)
    assert [*found] == [2, 4]
    assert found[2]["columns"] == ["step", "question", "answer", "reward", "advantage", "text"]
    assert [row[:5] for row in found[4]["data"]] == [
        [4, f"what color is <i>{name}</i> ?", "red & <blue>", reward, advantage]
        for name, reward, advantage in (("a", 2, 1), ("a", 1, -1), ("b", 2, 1))
    ]
    files = kept(tmp_path)
    whole = [json.loads(text) for text in files.values() if text.startswith('{"_type": "table"')]
    (cells,) = {json.dumps(table["data"]) for table in whole if table["data"][0][0] == 4}
    plain, _, coloured = [files[row[5]["sha256"]] for row in json.loads(cells)]
    assert "linear-gradient" not in plain and coloured.count("linear-gradient") == 3  # two tokens, and two, one in both
    assert "&lt;b&gt;&amp;" in coloured and "<b>&" not in coloured and "visual " in coloured
    assert "http" not in coloured


def test_a_resumed_run_has_each_step_and_each_table_once(tmp_path: Path):
    train(tmp_path, range(1, 6))
    train(tmp_path, range(4, 8))  # the first thing that it logs is the table of step 4
    assert [row["_step"] for row in rows(tmp_path)] == [*range(1, 8)]
    assert [row["loss"] for row in rows(tmp_path)] == [1.0 / step for step in range(1, 8)]
    assert [*tables(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize(
    ("updates", "settings", "shown"),
    [
        (1, {"every_n_steps": 0}, {}),
        (2, {"every_n_steps": 3}, {4: 4, 6: 6}),
        (1, {"every_n_steps": 2, "log_every": 3}, {4: 3, 6: 6}),
    ],
    ids=["never", "several updates of a batch", "a thinned log"],
)
def test_tables_keep_their_rhythm(tmp_path: Path, updates: int, settings: dict[str, int], shown: dict[int, int]):
    train(tmp_path, range(updates, 7, updates), **settings)
    assert {at: table["data"][0][0] for at, table in tables(tmp_path).items()} == shown


def test_without_wandb_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ktr.training.rollout_table.rollout_table", lambda records: pytest.fail("drawn"))
    run_batches(tmp_path, [MetricsCSV(tmp_path)], range(1, 5))
    assert "rollouts" not in (tmp_path / "metrics.csv").read_text()


def test_it_stands_behind_the_log_that_it_shows():
    callbacks = [*compose("train", ["logger=wandb"]).callbacks]
    assert callbacks.index("rollout_log") < callbacks.index("rollout_table")
