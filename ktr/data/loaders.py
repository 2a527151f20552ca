"""Encoded batches, decoded one ahead of the step that uses them.

A question that cannot be decoded or whose prompt is too long becomes a ``Skip``. In training it is replaced: slot by
slot, the slots of a batch that failed take the next questions of the epoch order, until all are filled. The ranks tell
each other which slots failed, so that all of them draw alike, and a batch is the same set of questions in the same
slots whatever the number of ranks. In validation a batch just lacks it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from math import ceil
from typing import TypeVar

from ktr.data.order import QuestionOrder
from ktr.data.skips import Skip, SkipLog
from ktr.errors import MediaError, MissingData, PromptTooLong
from ktr.types import PromptInputs, VideoQuestion

Encode = Callable[[VideoQuestion], PromptInputs]
Gather = Callable[[list[int]], list[list[int]]]
T = TypeVar("T")


@dataclass
class StreamPosition:
    """How far training has come: places of the order consumed (skips included) and batches handed out."""

    questions: int = 0
    batches: int = 0


@dataclass(frozen=True)
class Share:
    """This rank's part of the work. ``gather`` gives every rank the failed slots of all; a single rank needs none."""

    rank: int = 0
    world_size: int = 1
    gather: Gather | None = None


class TrainLoader:
    """Yields this rank's share of each global batch of ``questions_per_step`` questions, from ``position`` on.

    ``position`` moves when a batch is handed out, never when it is decoded ahead, so that what a checkpoint saves
    belongs to the batch being trained on. The stream of questions has no end; its epochs, ``len(self)`` batches each,
    only structure it.
    """

    def __init__(
        self,
        questions: Sequence[VideoQuestion],
        encode: Encode,
        order: QuestionOrder,
        questions_per_step: int,
        position: StreamPosition,
        skips: SkipLog,
        share: Share | None = None,
        prefetch: bool = True,
    ) -> None:
        self.questions, self.encode, self.order = questions, encode, order
        self.questions_per_step, self.position, self.skips = questions_per_step, position, skips
        self.share = share or Share()
        self.prefetch = prefetch

    def __len__(self) -> int:
        return ceil(self.order.num_questions / self.questions_per_step)

    def __iter__(self) -> Iterator[list[PromptInputs]]:
        filled = self._fill_epoch()
        for batch, place, skips in one_ahead(filled) if self.prefetch else filled:
            for skip in skips:
                self.skips.record(skip)
            self.position.questions = place
            self.position.batches += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The position, under the name by which Lightning knows a loader that can be resumed inside an epoch."""
        return asdict(self.position)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.position.questions, self.position.batches = state_dict["questions"], state_dict["batches"]

    def _fill_epoch(self) -> Iterator[tuple[list[PromptInputs], int, list[Skip]]]:
        place = self.position.questions
        for _ in range(len(self) - self.position.batches % len(self)):
            batch, place, skips = self._fill(place)
            yield batch, place, skips

    def _fill(self, start: int) -> tuple[list[PromptInputs], int, list[Skip]]:
        """Fills all slots of the batch that starts at a place of the order; returns this rank's and the next place."""
        per_rank = self.questions_per_step // self.share.world_size
        place, open_slots = start, list(range(self.questions_per_step))
        mine: dict[int, PromptInputs] = {}
        skips: list[Skip] = []
        while open_slots:
            failed = []
            for offset, slot in enumerate(open_slots):
                if slot // per_rank == self.share.rank:
                    encoded = encode_or_skip(self.encode, self.questions[self.order[place + offset]], "train")
                    if isinstance(encoded, Skip):
                        failed.append(slot)
                        skips.append(encoded)
                    else:
                        mine[slot] = encoded
            place += len(open_slots)
            all_failed = self.share.gather(failed) if self.share.gather else [failed]
            open_slots = sorted(chain.from_iterable(all_failed))
            if len(open_slots) == self.questions_per_step and place - start >= self.order.num_questions:
                reason = skips[-1].reason if skips else "see skips.jsonl"
                raise MissingData(f"none of the {self.order.num_questions} training questions can be read; {reason}")
        return [mine[slot] for slot in sorted(mine)], place, skips


class ValidationLoader:
    """Yields this rank's questions in file order, ``batch_size`` at a time, without those that cannot be read.

    Every rank yields the same number of batches; a batch may therefore be empty.
    """

    def __init__(
        self,
        questions: Sequence[VideoQuestion],
        encode: Encode,
        batch_size: int,
        skips: SkipLog,
        share: Share | None = None,
        prefetch: bool = True,
    ) -> None:
        self.questions, self.encode, self.batch_size, self.skips = questions, encode, batch_size, skips
        self.share = share or Share()
        self.prefetch = prefetch

    def __len__(self) -> int:
        return ceil(len(self.questions) / self.share.world_size / self.batch_size)

    def __iter__(self) -> Iterator[list[PromptInputs]]:
        batches = self._encode_all()
        for batch in one_ahead(batches) if self.prefetch else batches:
            for skip in batch:
                if isinstance(skip, Skip):
                    self.skips.record(skip)
            yield [prompt for prompt in batch if isinstance(prompt, PromptInputs)]

    def _encode_all(self) -> Iterator[list[PromptInputs | Skip]]:
        mine = range(self.share.rank, len(self.questions), self.share.world_size)
        for batch in range(len(self)):
            indices = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [encode_or_skip(self.encode, self.questions[index], "validation") for index in indices]


def encode_or_skip(encode: Encode, question: VideoQuestion, stage: str) -> PromptInputs | Skip:
    try:
        return encode(question)
    except (MediaError, PromptTooLong) as error:
        return Skip.of_question(error, stage, question)


def one_ahead(iterator: Iterator[T]) -> Iterator[T]:
    """The same items; while one is in use, the next is made in a thread."""
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        upcoming = thread.submit(next, iterator, end)
        while (item := upcoming.result()) is not end:
            upcoming = thread.submit(next, iterator, end)
            yield item  # pyright: ignore[reportReturnType]
