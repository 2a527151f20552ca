"""Inside Lightning: what a checkpoint saves is what a resumed run needs to go on with the next question."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ktr.data.datamodule import QuestionDataModule
from ktr.data.dataset import QuestionDataset
from ktr.data.loaders import Share
from ktr.data.skips import SkipLog
from ktr.errors import ConfigError, DemonstrationTooLong, RowError, UnreadableAnswer
from ktr.types import VideoQuestion

import lightning.pytorch as pl  # isort: skip


@pytest.fixture
def make_data(make_encode, tmp_path: Path):
    root = tmp_path / "media"
    root.mkdir()
    rows = [
        {"problem_id": i, "problem": "?", "problem_type": "free-form", "solution": "x", "path": "a.mp4"}
        for i in range(11)
    ]
    (root / "a.mp4").write_bytes(b"x")
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([*rows, {"problem_id": "bad"}]))

    def make(seed: int = 0, num_decoders: int = 1, skips: SkipLog | None = None) -> QuestionDataModule:
        train, validation = QuestionDataset(file, root), QuestionDataset(file, root, limit=3)
        encode = make_encode(frozenset({2, 7}))
        return QuestionDataModule(train, validation, encode, 2, seed, 2, skips=skips, num_decoders=num_decoders)

    return make


class Recorder(pl.LightningModule):
    """Trains nothing and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.asked: list[list[str]] = []
        self.validated: list[list[str]] = []

    def training_step(self, batch, index):
        self.asked.append([prompt.question.id for prompt in batch])
        return self.weight * 0

    def validation_step(self, batch, index):
        self.validated.append([prompt.question.id for prompt in batch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data, steps: int, folder: Path, resume: Path | None = None) -> Recorder:
    module = Recorder()
    checkpoint = pl.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=3,
        check_val_every_n_epoch=None,
    )
    trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=False)
    return module


@pytest.mark.parametrize("num_decoders", [0, 1, 3])
def test_a_run_resumed_from_any_checkpoint_asks_the_same_questions(num_decoders, make_data, tmp_path):
    whole = fit(make_data(num_decoders=num_decoders), 14, tmp_path / "whole")
    assert len(whole.asked) == 14 and not {"2", "7"} & {id for batch in whole.asked for id in batch}
    for step in (1, 5, 6, 7, 12):  # an epoch has 6 batches
        resumed = make_data(num_decoders=num_decoders)
        module = fit(resumed, 14, tmp_path / f"from{step}", resume=tmp_path / "whole" / f"step={step}.ckpt")
        assert module.asked == whole.asked[step:], f"resumed after step {step}"


def test_validation_sees_its_questions_in_file_order_each_time(make_data, tmp_path):
    module = fit(make_data(), 6, tmp_path / "run")
    assert module.validated == [["0", "1"], []] * 2


def test_a_skip_is_one_row_also_in_later_epochs_validations_and_after_a_resumption(make_data, tmp_path):
    file = tmp_path / "skips.jsonl"
    fit(make_data(skips=SkipLog(file)), 14, tmp_path / "whole")  # more than two epochs, four validations
    lines = file.read_bytes()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert sorted((row["stage"], row["id"]) for row in rows) == [
        ("rows", "bad"), ("train", "2"), ("train", "7"), ("validation", "2"),
    ]  # fmt: skip
    file.write_bytes(lines + b'{"stage": "train", "so')  # torn by a kill
    resumed = SkipLog(file)
    fit(make_data(skips=resumed), 14, tmp_path / "again", resume=tmp_path / "whole" / "step=4.ckpt")
    assert file.read_bytes().startswith(lines) and resumed.counts == Counter(MalformedRow=1, CorruptMedia=3)


def test_a_checkpoint_of_other_data_or_another_seed_is_refused(make_data):
    state = make_data(seed=0).state_dict()
    with pytest.raises(ConfigError, match="seed"):
        make_data(seed=1).load_state_dict(state)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_rows_that_were_changed_since_are_refused(part: str, make_data):
    state, data = make_data().state_dict(), make_data()
    questions = getattr(data, part).questions
    questions[0] = replace(questions[0], answer="another")
    with pytest.raises(ConfigError, match=f"data.{part}: its rows are others"):
        data.load_state_dict(state)
    del state["rows"]  # a checkpoint of before
    data.load_state_dict(state)


def test_a_batch_that_the_ranks_cannot_share_is_refused(make_data, monkeypatch):
    data = make_data()
    monkeypatch.setattr(data, "_share", lambda gather=None: Share(0, 3, gather))
    with pytest.raises(ConfigError, match=r"questions_per_step=2.*3 ranks"):
        data.setup("validate")


@pytest.mark.parametrize(
    ("key", "few"), [("questions_per_step", 0), ("validation_batch_size", 0), ("num_decoders", -1)]
)
def test_a_batch_of_none_is_refused_by_its_key(key: str, few: int, make_data):
    parts = {name: getattr(make_data(), name) for name in ("train", "validation", "encode", "seed")}
    counts = {"questions_per_step": 1, "validation_batch_size": 1, "num_decoders": 0}
    with pytest.raises(ConfigError, match=f"data.{key}={few}: give {few + 1} or more"):
        QuestionDataModule(**parts, **counts | {key: few})
    QuestionDataModule(**parts, **counts)


def test_the_state_of_the_data_module_alone_is_enough_to_go_on(make_data):
    stopped, resumed = make_data(num_decoders=0), make_data(num_decoders=0)
    batches = iter(stopped.train_dataloader())
    next(batches)
    resumed.load_state_dict(stopped.state_dict())
    following = next(iter(resumed.train_dataloader()))
    assert [prompt.question.id for prompt in following] == [prompt.question.id for prompt in next(batches)]


def test_what_cannot_be_judged_or_learned_from_is_a_counted_skip_before_or_after_its_media_are_read(make_data):
    def refuse(faulty: str, error: type[RowError], question: VideoQuestion) -> None:
        if question.id == faulty:
            raise error("rows.json", question.id, "it is no good")

    data = make_data(num_decoders=0)
    data.check = partial(refuse, "0", UnreadableAnswer)
    data.admit = lambda prompt: refuse("4", DemonstrationTooLong, prompt.question)
    asked = {prompt.question.id for batch in data.train_dataloader() for prompt in batch}
    assert not asked & {"0", "2", "4", "7"}
    assert data.skips.counts["UnreadableAnswer"] and data.skips.counts["DemonstrationTooLong"]
    assert [[prompt.question.id for prompt in batch] for batch in data.val_dataloader()] == [["1"], []]
