"""Asks on their way to a served model and back: media are read, requests are sent, replies come in any order.

take ─► decode, num_decoders at a time ─► wait for a place ─► request, max_concurrency at a time ─► Ended
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType

from ktr.errors import MediaError
from ktr.evaluation.asking.ask import Answered, Ask, Reply
from ktr.evaluation.asking.chat import ChatClient, Heard
from ktr.evaluation.asking.frames_sent import MediaSender
from ktr.evaluation.asking.loop_thread import loop_in_a_thread
from ktr.evaluation.asking.pace import Pace
from ktr.evaluation.asking.question import special_token
from ktr.evaluation.asking.request import Fields, MixedRates, RequestForm, SentPrompt
from ktr.evaluation.asking.spending import Price
from ktr.evaluation.rules.outcome import Outcome


@dataclass(frozen=True)
class Ended:
    """An answer; ``is_heard`` is whether the endpoint had a word for the item, None where it was not asked."""

    answered: Answered
    is_heard: bool | None = None


class Flight:
    """A context in which asks are in flight; at its end those that still are, are given up.

    ``connect`` makes the client. Decoded prompts that wait for a place are ``2 * num_decoders`` at most while requests
    of one completion fill all of ``max_concurrency``. ``price`` makes costs of tokens.
    """

    def __init__(
        self,
        form: RequestForm,
        sender: MediaSender,
        connect: Callable[[], ChatClient],
        pace: Pace,
        price: Price | None,
        max_concurrency: int,
        num_decoders: int,
    ) -> None:
        self.form, self.sender, self.pace, self.price = form, sender, pace, price
        self.room = max_concurrency + 2 * num_decoders
        self._connect, self._num_decoders = connect, num_decoders
        self._places = asyncio.Semaphore(max_concurrency)
        self._senders = threading.local()
        self._flying: set[Future[Ended]] = set()
        self._landed: SimpleQueue[Future[Ended]] = SimpleQueue()
        self._stack = ExitStack()

    def __enter__(self) -> "Flight":
        with ExitStack() as stack:
            self._pool = stack.enter_context(ThreadPoolExecutor(self._num_decoders, thread_name_prefix="decode"))
            self._loop = stack.enter_context(loop_in_a_thread("endpoint"))
            self._client = self._connect()
            stack.callback(lambda: asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._flying:
            future.cancel()
        self._stack.close()

    @property
    def has_room(self) -> bool:
        return len(self._flying) < self.room

    @property
    def is_empty(self) -> bool:
        return not self._flying

    def start(self, ask: Ask) -> None:
        future = asyncio.run_coroutine_threadsafe(self._fly(ask), self._loop)
        self._flying.add(future)
        future.add_done_callback(self._landed.put)

    def next(self) -> Ended:
        """Wait for one that ends. Raises ``EndpointError`` where it says that no other would be answered."""
        future = self._landed.get()
        self._flying.remove(future)
        return future.result()

    async def _fly(self, ask: Ask) -> Ended:
        prompt = await self._loop.run_in_executor(self._pool, self._read, ask)
        if isinstance(prompt, Answered):
            return Ended(prompt)
        return self._ended(ask, prompt, await asyncio.gather(*map(self._send, self.form.requests(ask, prompt))))

    async def _send(self, fields: Fields) -> Heard:
        async with self._places:
            await self.pace.turn()
            return await self._client.ask(fields)

    def _read(self, ask: Ask) -> SentPrompt | Answered:
        if special := special_token(ask.question):
            return Answered(ask, outcome=Outcome.FAILED, reason=f"its text holds the special token {special}")
        try:
            return self.form.prompt(ask, self._sender(ask.num_frames))
        except MediaError as error:
            return Answered(ask, outcome=Outcome.MEDIA_MISSING, reason=str(error))
        except MixedRates as error:
            return Answered(ask, outcome=Outcome.FAILED, reason=str(error))

    def _sender(self, num_frames: int) -> MediaSender:
        """This thread's."""
        own: dict[int, MediaSender] = self._senders.__dict__.setdefault("of", {})
        if num_frames not in own:
            own[num_frames] = self.sender.apart(num_frames)
        return own[num_frames]

    def _ended(self, ask: Ask, prompt: SentPrompt, heard: Sequence[Heard]) -> Ended:
        replies, outcome, reason, is_heard = _made_of(heard, ask.sampling.num_completions)
        prompt_tokens = sum(each.prompt_tokens for each in heard)
        completion_tokens = sum(each.completion_tokens for each in heard)
        is_counted = self.price is not None and prompt_tokens > 0
        answered = Answered(
            ask,
            replies,
            outcome,
            reason,
            prompt.num_frames,
            prompt_tokens,
            completion_tokens,
            seconds=round(max(each.seconds for each in heard), 4),
            cost=self.price.of(prompt_tokens, completion_tokens) if self.price and is_counted else None,
        )
        return Ended(answered, is_heard)


def _made_of(heard: Sequence[Heard], num_completions: int) -> tuple[tuple[Reply, ...], Outcome | None, str, bool]:
    """Replies, or outcome and reason, and whether the endpoint had a word for the item.

    A completion that is refused beside others is an empty reply, which has no vote.
    """
    for each in heard:
        if each.failure is not None:
            reason = ": ".join(filter(None, (each.failure, each.words)))
            return (), Outcome.FAILED, reason, each.failure == "refused"
    choices = [choice for each in heard for choice in each.choices]
    refusals = [choice.reason for choice in choices if not isinstance(choice, Reply)]
    if len(refusals) == len(choices):
        return (), Outcome.REFUSED, refusals[0], True
    if len(choices) < num_completions:
        return (
            (),
            Outcome.FAILED,
            f"{len(choices)} of {num_completions} completions came; set endpoint.n_per_request=1",
            True,
        )
    replies = tuple(choice if isinstance(choice, Reply) else Reply("") for choice in choices[:num_completions])
    return replies, None, "", True
