"""Callbacks observe: they write what a step gave them and move nothing."""

from itertools import count
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from torch.utils.data import DataLoader

from ktr.console.progress_line import ProgressLine, track
from ktr.record.metrics_csv import MetricsCSV
from ktr.record.progress import TrainingProgress
from ktr.record.rollout_log import RolloutLog
from ktr.record.step_output import StepOutput
from ktr.record.step_table import read_columns
from ktr.record.throughput import Throughput
from ktr.record.token_records import read_records
from ktr.record.token_statistics import TokenStatistics, token_statistics

from .conftest import LENGTHS, decode, make_experience, make_scores, make_weights, scored_group

SIGNALS = ("visual", "temporal")


class NoisyModule(LightningModule):
    """Draws its losses from the global generator, so that a callback that draws from it would show."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = (self.weight * torch.randn(2)).sum() + torch.rand(())
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.losses.append(loss.item())
        self.log("step", float(self.global_step))
        self.log("loss/total", loss.detach())
        with torch.random.fork_rng():
            experiences, scores, weights = (
                [make_experience("a"), make_experience("b")],
                make_scores(),
                make_weights(SIGNALS),
            )
        learned = scored_group(experiences[1], scores, weights)
        return {"loss": loss, "output": StepOutput(experiences, [learned], {"rollout": 0.5})}

    def validation_step(self, batch, batch_idx):
        self.log("val/greedy/accuracy", 0.5)

    def on_validation_epoch_end(self):
        self.log("step", float(self.global_step))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    @property
    def policy(self):
        return SimpleNamespace(decode_tokens=decode)


def train(run_dir, callbacks, num_steps=4):
    torch.manual_seed(1)
    module = NoisyModule()
    trainer = Trainer(
        max_steps=num_steps,
        val_check_interval=2,
        accelerator="cpu",
        logger=MetricsCSV(run_dir),
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_progress_bar=any(isinstance(callback, TrainingProgress) for callback in callbacks),
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    data = DataLoader([0] * 40, batch_size=2)
    trainer.fit(module, data, DataLoader([0] * 4, batch_size=2))
    return module, torch.rand(())


def all_callbacks(run_dir, **rollout_log):
    log = RolloutLog(run_dir / "rollouts.jsonl", **rollout_log)
    return [log, TokenStatistics(), Throughput(), TrainingProgress()]


def test_a_run_without_callbacks_has_the_same_losses_and_draws(tmp_path):
    observed, next_draw = train(tmp_path / "observed", all_callbacks(tmp_path / "observed"))
    alone, next_draw_alone = train(tmp_path / "alone", [])
    assert observed.losses == alone.losses
    assert torch.equal(observed.weight, alone.weight) and torch.equal(next_draw, next_draw_alone)


def test_a_step_has_one_row_with_its_losses_its_statistics_and_its_validation(tmp_path):
    module, _ = train(tmp_path, all_callbacks(tmp_path))
    columns = read_columns(tmp_path / "metrics.csv")
    steps, losses = columns["loss/total"]
    assert steps == [1, 2, 3, 4] and losses == module.losses
    assert columns["attribution/union_fraction"][0] == [1, 2, 3, 4]
    assert columns["val/greedy/accuracy"][0] == [2, 4]
    assert set(read_columns(tmp_path / "timings.csv")) >= {
        "train/questions_per_second",
        "train/tokens_per_second",
        "rollout/tokens_per_second",
        "time/rollout_seconds",
    }


def test_rollouts_hold_all_groups_and_the_scores_of_those_learned_from(tmp_path):
    train(tmp_path, [RolloutLog(tmp_path / "rollouts.jsonl")], num_steps=2)
    records = list(read_records(tmp_path / "rollouts.jsonl"))
    assert [(r["step"], r["question"]) for r in records] == [(s, q) for s in (1, 2) for q in "aabb"]
    assert [set(r["scores"]) for r in records] == [set(), set(), set(SIGNALS), set(SIGNALS)] * 2


@pytest.mark.parametrize(("settings", "steps"), [({"every_n_steps": 2}, [2] * 4), ({"max_completions": 1}, [1, 2])])
def test_the_rollout_log_can_be_thinned(tmp_path, settings, steps):
    train(tmp_path, [RolloutLog(tmp_path / "rollouts.jsonl", **settings)], num_steps=2)
    assert [record["step"] for record in read_records(tmp_path / "rollouts.jsonl")] == steps


def test_a_rollout_log_drops_what_lies_past_the_restored_step(tmp_path):
    train(tmp_path, [log := RolloutLog(tmp_path / "rollouts.jsonl")], num_steps=3)
    log.on_load_checkpoint(MagicMock(Trainer), MagicMock(LightningModule), {"global_step": 1})
    assert {record["step"] for record in read_records(tmp_path / "rollouts.jsonl")} == {1}


def test_token_statistics_count_the_tokens_of_all_groups():
    experiences = [make_experience(), make_experience()]
    metrics = token_statistics(experiences, [make_weights(SIGNALS), make_weights(("visual",))])
    assert metrics["attribution/visual/selected_fraction"] == pytest.approx(8 / 22)
    assert metrics["attribution/temporal/selected_fraction"] == pytest.approx(4 / 22)
    assert metrics["attribution/union_fraction"] == pytest.approx(10 / 22)
    assert metrics["attribution/overlap/visual_temporal"] == pytest.approx(2 / 10)
    assert token_statistics(experiences, [make_weights(())] * 2) == {}


def test_mean_scores_leave_padding_out():
    weights = make_weights(("visual",))
    metrics = token_statistics([make_experience()], [weights])
    kept = [weights.scores["visual"][row, :length] for row, length in enumerate(LENGTHS)]
    assert metrics["attribution/visual/score"] == pytest.approx(torch.cat(kept).mean().item())


@pytest.mark.parametrize("updates", [1, 3])
def test_throughput_is_counts_over_seconds_and_a_step_is_one_update(updates: int):
    throughput = Throughput()
    assert throughput.tokens_per_second == 0.0
    trainer, module = MagicMock(Trainer, global_step=2), MagicMock(LightningModule)
    throughput.on_train_batch_start(trainer, module, ["question"], 0)
    trainer.global_step += updates
    outputs = {"output": StepOutput([make_experience()], [], {"rollout": 0.5})}
    throughput.on_train_batch_end(trainer, module, outputs, ["question"], 0)
    (logged,) = module.log_dict.call_args.args
    assert logged["rollout/tokens_per_second"] == pytest.approx(sum(LENGTHS) / 0.5)
    assert logged["train/tokens_per_second"] == pytest.approx(sum(LENGTHS) / updates / logged["train/step_seconds"])
    assert throughput.questions_per_second == pytest.approx(1 / updates / logged["train/step_seconds"])


def test_questions_are_those_that_were_answered_and_not_the_first_batch_of_a_filled_step():
    throughput, module = Throughput(), MagicMock(LightningModule)
    throughput.on_train_batch_start(MagicMock(Trainer, global_step=0), module, ["question"], 0)
    outputs = {"output": StepOutput([make_experience()] * 3, [], {})}
    throughput.on_train_batch_end(MagicMock(Trainer, global_step=1), module, outputs, ["question"], 0)
    assert throughput.num_questions == 3 and throughput.num_tokens == 3 * sum(LENGTHS)


def test_off_a_terminal_progress_is_plain_lines_of_at_most_100_columns(tmp_path, monkeypatch):
    clock = count()
    monkeypatch.setattr("ktr.console.progress_line.perf_counter", lambda: 0.001 * next(clock))
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, width=100)
        with ProgressLine("train", 110, console=console, seconds_between_lines=0.0) as line:
            for _ in range(3):
                line.advance(questions=16, tokens=4000, seconds=1.5, detail="reward 1.234 · " + "x" * 90)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 100
    assert lines[-1].startswith("train 3/110 · 10.7 q/s · 2.7k tok/s · 0:00 left · reward 1.234")


def test_on_a_terminal_the_bar_stays_within_100_columns(tmp_path):
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, width=100, force_terminal=True, color_system=None)
        with ProgressLine("train", 110, console=console) as line:
            line.advance(questions=16, tokens=4000, seconds=1.5, detail="reward 1.234 · accuracy 0.567")
    text = (tmp_path / "log").read_text()
    assert "1/110" in text and "accuracy 0.567" in text
    shown = [part for line in text.split("\n") for part in line.split("\r")]
    assert max(len(Console().render_str(part).plain) for part in shown) <= 110  # with its escape codes


def test_a_count_inside_another_one_leaves_the_bar_to_it(tmp_path):
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, width=100, force_terminal=True, color_system=None)
        line = ProgressLine("vllm", 4, console=console, seconds_between_lines=0.0, live=False)
        line.advance(1, questions=1, tokens=30, detail="3 running")
    assert (line.num_tokens, line.done) == (30, 1)
    (shown,) = (tmp_path / "log").read_text().splitlines()
    assert shown.startswith("vllm 1/4 · ") and shown.endswith("3 running")


def test_tracked_items_pass_unchanged():
    assert list(track(range(3), "evaluate", 3)) == [0, 1, 2]


def test_only_rank_0_shows_progress():
    progress = TrainingProgress()
    trainer, module = MagicMock(Trainer, is_global_zero=False, num_val_batches=[3]), MagicMock(LightningModule)
    progress.setup(trainer, module, "fit")
    progress.on_validation_start(trainer, module)
    assert progress._validation is None
