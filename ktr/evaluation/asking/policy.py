"""A policy of ours is asked, by any of the engines that train it."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from time import perf_counter

from ktr.errors import ConfigError, MediaError, PromptTooLong
from ktr.evaluation.asking.ask import Answered, Ask, Reply, Take
from ktr.evaluation.asking.question import special_token
from ktr.evaluation.rules.outcome import Outcome
from ktr.policy.encoder_pool import EncoderPool
from ktr.policy.family import Policy
from ktr.rollout.engine import RolloutEngine
from ktr.types import Completion, PromptInputs, RolloutGroup

Ready = tuple[Ask, PromptInputs]


class PolicyAnswers:
    """Asks a policy through its engine, ``batch_size`` questions at a time.

    Videos are decoded ahead in ``num_decoders`` threads, each with its own decoding process, and whatever is ready
    makes the next batch: one slow video doesn't hold the others up.
    """

    SECONDS_FOR_A_FULL_BATCH = 1.0

    def __init__(
        self,
        policy: Policy,
        engine: RolloutEngine,
        encoders: EncoderPool,
        batch_size: int = 32,
        num_decoders: int = 2,
    ) -> None:
        if batch_size < 1 or num_decoders < 1:
            raise ConfigError(f"batch_size={batch_size}, num_decoders={num_decoders}: both are 1 or more")
        self.policy, self.engine, self.encoders = policy, engine, encoders
        self.batch_size, self.num_decoders = batch_size, num_decoders

    def answers(self, take: Take) -> Iterator[Answered]:
        encoding: dict[Future[PromptInputs | Answered], Ask] = {}
        ready: list[Ready] = []
        with ThreadPoolExecutor(self.num_decoders, thread_name_prefix="decode") as pool:
            try:
                while True:
                    while len(encoding) + len(ready) < 2 * self.batch_size and (ask := take()) is not None:
                        encoding[pool.submit(self._encode, ask)] = ask
                    if not encoding and not ready:
                        return
                    is_full = len(ready) >= self.batch_size
                    patience = 0.0 if is_full else self.SECONDS_FOR_A_FULL_BATCH if ready else None
                    done = wait(encoding, patience, FIRST_COMPLETED).done if encoding else set()
                    for future in done:
                        ask, encoded = encoding.pop(future), future.result()
                        if isinstance(encoded, Answered):
                            yield encoded
                        else:
                            ready.append((ask, encoded))
                    if is_full or not done:
                        batch, ready = _alike(ready, self.batch_size)
                        yield from self._answer(batch)
            finally:
                for future in encoding:
                    future.cancel()

    def close(self) -> None:
        self.engine.close()

    def _encode(self, ask: Ask) -> PromptInputs | Answered:
        question = ask.question
        if special := special_token(question):
            return Answered(ask, outcome=Outcome.FAILED, reason=f"its text holds the special token {special}")
        try:
            return self.encoders.encode(question, ask.num_frames)
        except MediaError as error:
            return Answered(ask, outcome=Outcome.MEDIA_MISSING, reason=str(error))
        except PromptTooLong as error:
            return Answered(ask, outcome=Outcome.FAILED, reason=str(error))

    def _answer(self, batch: Sequence[Ready]) -> Iterator[Answered]:
        asks, prompts = zip(*batch, strict=True)
        start = perf_counter()
        groups = self.engine.generate(prompts, asks[0].sampling, [ask.seed for ask in asks])
        seconds = (perf_counter() - start) / len(batch)
        for ask, group in zip(asks, groups, strict=True):
            yield self._answered(ask, group, seconds)

    def _answered(self, ask: Ask, group: RolloutGroup, seconds: float) -> Answered:
        per_patch = self.policy.temporal_patch_size
        return Answered(
            ask,
            replies=tuple(map(_reply, group.completions)),
            num_frames=tuple(
                medium.grid_thw[0] * (per_patch if medium.kind == "video" else 1) for medium in group.prompt.media
            ),
            prompt_tokens=group.prompt.num_tokens,
            completion_tokens=group.num_tokens,
            seconds=round(seconds, 4),
        )


def _reply(completion: Completion) -> Reply:
    return Reply(completion.text, completion.finish_reason == "length")


def _alike(ready: Sequence[Ready], limit: int) -> tuple[list[Ready], list[Ready]]:
    """Up to ``limit`` of those that are sampled as the first is, and the others."""
    alike: list[Ready] = []
    others: list[Ready] = []
    for each in ready:
        is_alike = each[0].sampling == ready[0][0].sampling and len(alike) < limit
        (alike if is_alike else others).append(each)
    return alike, others
