"""The Lightning data module: encoded questions for training and validation, resumable to the question."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch.distributed
from lightning.pytorch import LightningDataModule

from ktr.config.even_shares import check_questions
from ktr.data.dataset import QuestionDataset
from ktr.data.loaders import Encode, Gather, Share, StreamPosition, TrainLoader, ValidationLoader
from ktr.data.order import QuestionOrder
from ktr.data.skips import SkipLog
from ktr.errors import ConfigError
from ktr.types import PromptInputs, VideoQuestion


class QuestionDataModule(LightningDataModule):
    """Feeds ``list[PromptInputs]`` to training and validation.

    Args:
        train, validation: the questions.
        encode: turns a question into what the policy reads; its errors of one question are skips.
        questions_per_step: size of the global batch, a multiple of the number of ranks.
        seed: with the epoch, decides the order of the training questions.
        validation_batch_size: questions per validation batch of one rank.
        skips: where skipped questions are counted and logged.
        num_decoders: threads that make the next batch while one is learned from, each with a decoding process; 0: none.
        transform: changes a training question before it is asked; held-out questions stay as they are.
        check: looks at each question before its media are read; its ``RowError`` is a skip.
        admit: looks at what was made of each training question; its ``RowError`` is a skip.

    The order depends on (seed, epoch) only; its position is saved with every checkpoint and belongs to the last batch
    handed out, so that a resumed run goes on exactly, also with another number of ranks. Raises ConfigError on a batch
    of none.
    """

    def __init__(
        self,
        train: QuestionDataset,
        validation: QuestionDataset,
        encode: Encode,
        questions_per_step: int,
        seed: int,
        validation_batch_size: int,
        skips: SkipLog | None = None,
        num_decoders: int = 1,
        transform: Callable[[VideoQuestion], VideoQuestion] | None = None,
        check: Callable[[VideoQuestion], None] | None = None,
        admit: Callable[[PromptInputs], None] | None = None,
    ) -> None:
        super().__init__()
        for name, count, least in (
            ("questions_per_step", questions_per_step, 1),
            ("validation_batch_size", validation_batch_size, 1),
            ("num_decoders", num_decoders, 0),
        ):
            if count < least:
                raise ConfigError(f"data.{name}={count}: give {least} or more")
        self.train, self.validation, self.encode = train, validation, encode
        self.questions_per_step, self.seed, self.validation_batch_size = questions_per_step, seed, validation_batch_size
        self.skips = skips or SkipLog()
        self.num_decoders, self.transform, self.check, self.admit = num_decoders, transform, check, admit
        self.position = StreamPosition()
        self._rows_recorded = False

    def setup(self, stage: str) -> None:
        check_questions(self.questions_per_step, self._share().world_size)
        if not self._rows_recorded and (self.trainer is None or self.trainer.is_global_zero):
            for skip in (*self.train.skips, *self.validation.skips):
                self.skips.record(skip)
        self._rows_recorded = True

    def train_dataloader(self) -> TrainLoader:
        share = self._share(self._gather())
        order = QuestionOrder(len(self.train), self.seed)
        questions = self.train.questions
        return TrainLoader(
            questions if self.transform is None else [self.transform(question) for question in questions],
            self._encode_to_learn,
            order,
            self.questions_per_step,
            self.position,
            self.skips,
            share,
            self.num_decoders,
        )

    def val_dataloader(self) -> ValidationLoader:
        return ValidationLoader(
            self.validation.questions,
            self._encode,
            self.validation_batch_size,
            self.skips,
            self._share(),
            self.num_decoders,
        )

    def transfer_batch_to_device(self, batch: list[PromptInputs], device: Any, dataloader_idx: int) -> Any:
        """Leaves the batch where it is: engines and scorers move what they read, and may do so in parts."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {
            "questions": self.position.questions,
            "batches": self.position.batches,
            "order": self._order_facts(),
            "rows": self._rows,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["order"] != self._order_facts():
            raise ConfigError(
                f"the checkpoint was made with {state_dict['order']}, this run has {self._order_facts()}: resume with "
                "the same data, seed and questions_per_step, or start a new run from the checkpoint's weights"
            )
        for part, digest in state_dict.get("rows", {}).items():  # checkpoints before 0.2 have none
            if digest != self._rows[part]:
                raise ConfigError(
                    f"data.{part}: its rows are others than those that the run began with; put them back as they were, "
                    "or start a new run from the checkpoint's weights"
                )
        self.position.questions, self.position.batches = state_dict["questions"], state_dict["batches"]

    def _encode(self, question: VideoQuestion) -> PromptInputs:
        if self.check is not None:
            self.check(question)
        return self.encode(question)

    def _encode_to_learn(self, question: VideoQuestion) -> PromptInputs:
        prompt = self._encode(question)
        if self.admit is not None:
            self.admit(prompt)
        return prompt

    def _order_facts(self) -> dict[str, int]:
        return {
            "num_questions": len(self.train),
            "seed": self.seed,
            "questions_per_step": self.questions_per_step,
        }

    @cached_property
    def _rows(self) -> dict[str, str]:
        return {"train": _digest(self.train.questions), "validation": _digest(self.validation.questions)}

    def _share(self, gather: Gather | None = None) -> Share:
        if self.trainer is None:
            return Share()
        return Share(self.trainer.global_rank, self.trainer.world_size, gather)

    def _gather(self) -> Gather | None:
        if self.trainer is None or self.trainer.world_size == 1:
            return None
        # A group of its own: the exchange runs in the prefetching thread, beside the collectives of the step.
        limit = getattr(self.trainer.strategy, "time_limit", None)  # that of ktr's strategies
        group = torch.distributed.new_group(backend="gloo", timeout=limit)

        def gather(failed: list[int]) -> list[list[int]]:
            gathered: list[list[int]] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(gathered, failed, group=group)
            return gathered

        return gather


def _digest(questions: Iterable[VideoQuestion]) -> str:
    """Of what is asked, answered and shown; not of where media lie, for folders may be moved."""
    digest = blake2b(digest_size=8)
    for question in questions:
        shown = [(file.path.name, file.kind, file.clip) for file in question.media]
        digest.update(repr((replace(question, media=(), extra={}), shown)).encode())
    return digest.hexdigest()
