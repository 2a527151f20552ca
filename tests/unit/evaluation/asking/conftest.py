"""Made-up items, and whoever answers them without a model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ktr.data.prompts import PromptTemplate
from ktr.evaluation.asking.ask import Answered, Ask, Reply, Take
from ktr.evaluation.asking.asking import Asking
from ktr.evaluation.asking.chat import ChatClient
from ktr.evaluation.asking.decoding import Decoding, OneRound
from ktr.evaluation.asking.endpoint import EndpointAnswers
from ktr.evaluation.benchmarks.item import Item, ItemMedium
from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.tagged import lenient
from ktr.rollout.engine import SamplingParams
from ktr.types import MediaFile, VideoQuestion
from tests.unit.evaluation.asking.fake_endpoint import KEY, VIDEO, Answer, FakeEndpoint, Serve

GREEDY = SamplingParams(1, 8, temperature=0.0)


def item(number: int, answer: str = "A", **more) -> Item:
    asked = Asked(answer, options=("A. red", "B. blue"), question=f"Question {number}?")
    return Item(str(number), asked, (ItemMedium((f"{number % 3}.mp4",)),), subtask=f"task {number % 2}", **more)


def question_of(item: Item) -> VideoQuestion:
    media = tuple(MediaFile(Path(medium.paths[0])) for medium in item.media)
    return VideoQuestion(item.id, item.asked.question, "multiple choice", item.asked.answer, media, item.asked.options)


class Scripted:
    """Answers by a function of the ask, ``at_once`` of them in flight, the last that was taken first."""

    def __init__(self, reply: Callable[[Ask], Answered | str | list[str]], at_once: int = 4) -> None:
        self.reply, self.at_once = reply, at_once
        self.asked: list[Ask] = []
        self.closed = False

    def answers(self, take: Take) -> Iterator[Answered]:
        flying: list[Ask] = []
        while True:
            while len(flying) < self.at_once and (ask := take()) is not None:
                flying.append(ask)
                self.asked.append(ask)
            if not flying:
                return
            ask = flying.pop()
            replied = self.reply(ask)
            if isinstance(replied, Answered):
                yield replied
                continue
            texts = [replied] if isinstance(replied, str) else replied
            replies = tuple(map(Reply, texts))
            yield Answered(ask, replies, num_frames=(ask.num_frames,), prompt_tokens=10, completion_tokens=len(texts))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def asking_of() -> Callable[..., Asking]:
    def make(items: list[Item], decoding: Decoding | None = None, seed: int = 0) -> Asking:
        return Asking(items, question_of, PromptTemplate(), decoding or OneRound(8, GREEDY), lenient, seed)

    return make


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A fake endpoint that answers by a function, and who asks it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which is not asked
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(ChatClient, "FIRST_WAIT_S", 0.001)
    servers: list[FakeEndpoint] = []

    def make(answer: Answer, model: str = "m", **settings: Any) -> tuple[FakeEndpoint, EndpointAnswers]:
        servers.append(FakeEndpoint(answer))
        settings = {"retries": 2, "time_limit_s": 30.0} | settings
        return servers[-1], EndpointAnswers(model, PromptTemplate("", {}), VIDEO, servers[-1].url, **settings)

    yield make
    for server in servers:
        server.end()
