"""Encoded batches, decoded ahead of the step that uses them.

A question that cannot be decoded or learned from, or whose prompt is too long, becomes a ``Skip``. In training it is
replaced: slot by slot, the slots of a batch that failed take the next questions of the epoch order, until all are
filled. The ranks tell each other which slots failed, so that all of them draw alike, and a batch is the same set of
questions in the same slots whatever the number of ranks. In validation a batch just lacks it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from math import ceil
from time import perf_counter
from typing import Any, Generic, TypeVar

from ktr.data.order import QuestionOrder
from ktr.data.skips import Skip, SkipLog
from ktr.errors import MediaError, MissingData, PromptTooLong, RowError
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

    ``position`` moves when a batch is handed out, never when it is decoded ahead or looked at, so that what a
    checkpoint saves belongs to the batch being trained on. ``seconds_waited`` is what batches were waited for so far.
    The stream of questions has no end; its epochs, ``len(self)`` batches each, only structure it.
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
        num_decoders: int = 1,
    ) -> None:
        self.questions, self.encode, self.order = questions, encode, order
        self.questions_per_step, self.position, self.skips = questions_per_step, position, skips
        self.share = share or Share()
        self.num_decoders = num_decoders
        self.seconds_waited = 0.0
        self._upcoming: Lookahead[tuple[list[PromptInputs], int, list[Skip]]] | None = None

    def __len__(self) -> int:
        return ceil(self.order.num_questions / self.questions_per_step)

    def __iter__(self) -> Iterator[list[PromptInputs]]:
        with Decoders(self.num_decoders) as decoders, Lookahead(self._fill_epoch(decoders), decoders.ahead) as upcoming:
            self._upcoming = upcoming
            while (batch := self.take()) is not None:
                yield batch

    def take(self) -> list[PromptInputs] | None:
        """One more batch, for the step that has the one handed out last; None at the end of an epoch."""
        upcoming = self._upcoming
        filled = self._waited_for(lambda: next(upcoming, None)) if upcoming is not None else None
        return None if filled is None else self._hand_out(*filled)

    def peek(self) -> list[PromptInputs] | None:
        """The batch after the one handed out last, which the next step will get; None at the end of an epoch."""
        filled = self._waited_for(self._upcoming.peek) if self._upcoming is not None else None
        return None if filled is None else filled[0]

    def state_dict(self) -> dict[str, int]:
        """The position, under the name by which Lightning knows a loader that can be resumed inside an epoch."""
        return asdict(self.position)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.position.questions, self.position.batches = state_dict["questions"], state_dict["batches"]

    def _waited_for(self, make: Callable[[], T]) -> T:
        started = perf_counter()
        try:
            return make()
        finally:
            self.seconds_waited += perf_counter() - started

    def _hand_out(self, batch: list[PromptInputs], place: int, skips: list[Skip]) -> list[PromptInputs]:
        for skip in skips:
            self.skips.record(skip)
        self.position.questions = place
        self.position.batches += 1
        return batch

    def _fill_epoch(self, decoders: "Decoders") -> Iterator[tuple[list[PromptInputs], int, list[Skip]]]:
        place = self.position.questions
        for _ in range(len(self) - self.position.batches % len(self)):
            batch, place, skips = self._fill(place, decoders)
            yield batch, place, skips

    def _fill(self, start: int, decoders: "Decoders") -> tuple[list[PromptInputs], int, list[Skip]]:
        """Fills all slots of the batch that starts at a place of the order; returns this rank's and the next place."""
        per_rank = self.questions_per_step // self.share.world_size
        place, open_slots = start, list(range(self.questions_per_step))
        mine: dict[int, PromptInputs] = {}
        skips: list[Skip] = []
        while open_slots:
            failed = []
            of_slots = {
                slot: self.questions[self.order[place + offset]]
                for offset, slot in enumerate(open_slots)
                if slot // per_rank == self.share.rank
            }
            for slot, encoded in zip(of_slots, decoders.encode(self.encode, of_slots.values(), "train"), strict=True):
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
        num_decoders: int = 1,
    ) -> None:
        self.questions, self.encode, self.batch_size, self.skips = questions, encode, batch_size, skips
        self.share = share or Share()
        self.num_decoders = num_decoders

    def __len__(self) -> int:
        return ceil(len(self.questions) / self.share.world_size / self.batch_size)

    def __iter__(self) -> Iterator[list[PromptInputs]]:
        with Decoders(self.num_decoders) as decoders, Lookahead(self._encode_all(decoders), decoders.ahead) as batches:
            for batch in batches:
                for skip in batch:
                    if isinstance(skip, Skip):
                        self.skips.record(skip)
                yield [prompt for prompt in batch if isinstance(prompt, PromptInputs)]

    def _encode_all(self, decoders: "Decoders") -> Iterator[list[PromptInputs | Skip]]:
        mine = range(self.share.rank, len(self.questions), self.share.world_size)
        for batch in range(len(self)):
            indices = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield decoders.encode(self.encode, [self.questions[index] for index in indices], "validation")


def encode_or_skip(encode: Encode, stage: str, question: VideoQuestion) -> PromptInputs | Skip:
    try:
        return encode(question)
    except (MediaError, PromptTooLong, RowError) as error:
        return Skip.of_question(error, stage, question)


class Decoders:
    """``num`` threads that encode the questions of a batch side by side, ahead of its step; with 0 the step waits."""

    def __init__(self, num: int) -> None:
        self.ahead = num > 0
        self._pool = ThreadPoolExecutor(num, thread_name_prefix="decode") if num > 1 else None

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def encode(self, encode: Encode, questions: Iterable[VideoQuestion], stage: str) -> list[PromptInputs | Skip]:
        """What each question became, in their order. An error of another kind than a skip's is raised."""
        return list((map if self._pool is None else self._pool.map)(partial(encode_or_skip, encode, stage), questions))


class Lookahead(Generic[T]):
    """The items of an iterator, none of which is None; ``peek`` shows the next one without taking it.

    ``threaded``: while an item is in use the next is made in a thread, and one more once the next was looked at.
    """

    def __init__(self, iterator: Iterator[T], threaded: bool) -> None:
        self._iterator = iterator
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") if threaded else None
        self._upcoming: deque[Future[T | None]] = deque()  # the last may hold None, the end

    def __enter__(self) -> "Lookahead[T]":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def __iter__(self) -> "Lookahead[T]":
        return self

    def __next__(self) -> T:
        item = self._first()
        if item is None:
            raise StopIteration
        self._upcoming.popleft()
        self._make_ahead(1)
        return item

    def peek(self) -> T | None:
        """The next item; None at the end."""
        item = self._first()
        if item is not None:
            self._make_ahead(2)
        return item

    def _first(self) -> T | None:
        if not self._upcoming:
            self._upcoming.append(self._make())
        return self._upcoming[0].result()

    def _make_ahead(self, count: int) -> None:
        while self._thread is not None and len(self._upcoming) < count:
            self._upcoming.append(self._make())

    def _make(self) -> Future[T | None]:
        if self._thread is not None:
            return self._thread.submit(next, self._iterator, None)
        made: Future[T | None] = Future()
        made.set_result(next(self._iterator, None))
        return made
