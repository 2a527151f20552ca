"""A server that speaks as much of OpenAI's chat-completions API as asking needs, in threads; and asks for it."""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ktr.data.video import VideoSettings
from ktr.evaluation.asking.ask import Answered, Ask
from ktr.evaluation.asking.endpoint import EndpointAnswers
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.asked import Asked
from ktr.rollout.engine import SamplingParams
from ktr.types import MediaFile, VideoQuestion

VIDEO = VideoSettings(num_frames=8, max_pixels=3136, min_pixels=3136)
ONE = SamplingParams(1, 8, temperature=0.0)
KEY = "hush-0123456789"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
SOON = {"retry-after-ms": "1"}


@dataclass(frozen=True)
class Says:
    """What a request is answered: a status and a body, which is JSON unless it is bytes."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


HANG, DROP = Says(None, 0), Says(None, -1)  # no answer; the connection is closed
Answer = Callable[[dict[str, Any]], Says]


def says(*texts: str | None, finish: str = "stop", **message: Any) -> Says:
    """A choice for each text."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text} | message, "finish_reason": finish}
        for i, text in enumerate(texts)
    ]
    return Says(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": USAGE}
    )


def fault(status: int, message: str = "no", **error: Any) -> Says:
    return Says({"error": {"message": message} | error}, status, SOON)


def text_of(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class FakeEndpoint(ThreadingHTTPServer):
    """Answers by a function of the request; ``requests`` are all that came, ``keys`` theirs."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer):
        self.answer, self.released = answer, threading.Event()
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # whoever asked is gone
            super().handle_error(request, client_address)

    def end(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.keys.add(self.headers["Authorization"])
        said = self.server.answer(request)
        if said.status <= 0:
            if said is HANG:
                self.server.released.wait(30)
            self.close_connection = True
            return
        data = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        with suppress(ConnectionError):  # nobody waits any more
            self.send_response(said.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


Serve = Callable[..., tuple[FakeEndpoint, EndpointAnswers]]


def ask(number: int, *media: MediaFile, sampling: SamplingParams = ONE) -> Ask:
    question = VideoQuestion(str(number), f"Question {number}?", "free-form", "A", media)
    item = Item(str(number), Asked("A", question=question.problem), ())
    return Ask(item, question, 8, sampling, seed=number)


def takes(asks: Sequence[Ask]) -> Callable[[], Ask | None]:
    waiting = list(reversed(asks))
    return lambda: waiting.pop() if waiting else None


def answered(answers: EndpointAnswers, asks: Sequence[Ask]) -> dict[str, Answered]:
    """Every answer, by the question's id."""
    found = {each.ask.question.id: each for each in answers.answers(takes(asks))}
    assert len(found) == len(asks)
    return found


def number_of(request: dict[str, Any]) -> int:
    """Which of ``ask`` a request is."""
    return int(text_of(request).removeprefix("Question ").rstrip("?"))


def echo(request: dict[str, Any]) -> Says:
    return says(f"to {number_of(request)}")
