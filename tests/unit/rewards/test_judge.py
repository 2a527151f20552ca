"""A served judge: what it says, what it fails at, and how a batch of groups is asked."""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from ktr.errors import ConfigError, JudgeError
from ktr.rewards.composite import BatchReward, CompositeReward
from ktr.rewards.format import Format
from ktr.rewards.judge import ServedJudge

Answer = Callable[[str], tuple[int, Any]]  # of a prompt: status and what is sent


class Judge(ThreadingHTTPServer):
    """Speaks as much of OpenAI's API as a judge has to."""

    daemon_threads = True

    def __init__(self, answer: Answer):
        self.answer, self.asked, self.released = answer, [], threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Judge

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = request["messages"][0]["content"]
        self.server.asked.append((prompt, self.headers["Authorization"], request["model"]))
        status, text = self.server.answer(prompt)
        if status == 0:  # hang
            self.server.released.wait(10)
            return
        message = {"role": "assistant", "content": text}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        data = (
            json.dumps(body if status == 200 else {"error": {"message": "no"}}).encode()
            if text != "garbage"
            else b"<html>"
        )
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(BrokenPipeError):  # nobody waits any more
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Judge, ServedJudge]]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[Judge] = []

    def make(answer: Answer, **settings: Any) -> tuple[Judge, ServedJudge]:
        servers.append(Judge(answer))
        return servers[-1], ServedJudge(servers[-1].url, "mine", **{"retries": 0, "time_limit_s": 30.0} | settings)

    yield make
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


def by_reply(prompt: str) -> tuple[int, Any]:
    return 200, "It is so. Score: 3\nScore: 10" if prompt.endswith("right") else "Score: 2.5 of 10"


def test_all_groups_are_judged_at_once_and_in_order_without_a_word(serve, make_group, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("MY_KEY", "hush")
    together = threading.Barrier(5)

    def answer(prompt: str) -> tuple[int, Any]:
        together.wait(10)  # broken where one waits for another
        return by_reply(prompt)

    server, judge = serve(answer, key_variable="MY_KEY")
    reward = CompositeReward({"format": Format(), "judge": judge}, {"judge": 2.0})
    first, second = reward.of_groups([make_group("right", "wrong"), make_group("wrong", "right", "<think>{x}</think>")])
    assert isinstance(judge, BatchReward) and first[0]["judge"].tolist() == [1.0, 0.25]
    assert second[0]["judge"].tolist() == [0.25, 1.0, 0.25] and second[1].tolist() == [0.5, 2.0, 0.5]
    assert not caplog.records
    assert {asked[1:] for asked in server.asked} == {("Bearer hush", "mine")} and len(server.asked) == 5
    assert any("Right answer: B" in prompt and "{x}" in prompt for prompt, *_ in server.asked)
    assert set(reward.parts([make_group("right")], ("format",))[0]) == {"format"} and len(server.asked) == 5


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (0, "", "no reply in time"),
        (429, "", "busy"),
        (500, "", "server error"),
        (400, "", r"refused \(Error code: 400 - no\)"),
        (200, "I like it", "no score in the reply"),
        (200, None, "no score in the reply"),
        (200, "garbage", "no reply of this API"),
    ],
)
def test_what_fails_is_named_and_teaches_nothing(serve, make_group, caplog, status: int, text: Any, said: str):
    def answer(prompt: str) -> tuple[int, Any]:
        return (status, text) if prompt.endswith("bad") else by_reply(prompt)

    _, judge = serve(answer, max_failed_fraction=0.25, time_limit_s=20.0 if status else 1.5)
    groups = [make_group("right", "bad", "wrong"), make_group("right")]
    with caplog.at_level(logging.WARNING):
        first_G, second_G = judge.score_groups(groups)
    torch.testing.assert_close(first_G, torch.tensor([1.0, 0.625, 0.25]))
    assert second_G.tolist() == [1.0] and re.search(
        f"1 of 4 completions count as their group's mean, unjudged: 1 × {said}", caplog.text
    )
    with pytest.raises(JudgeError, match=f"1 of 1 completions unjudged: 1 × {said}.*; .*goes on from"):
        judge(make_group("bad"))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score (0-10): 7", 0.7),
        ("**Score:** 8/10", 0.8),
        ("Score (8)", 0.8),
        ("score = 6.5", 0.65),
        ([{"type": "thinking", "thinking": "Score: 1"}, {"type": "text", "text": "Score: 9"}], 0.9),
    ],
    ids=str,
)
def test_a_score_is_read_in_the_forms_that_judges_write(serve, make_group, text: Any, score: float):
    _, judge = serve(lambda prompt: (200, text))
    torch.testing.assert_close(judge(make_group("a")), torch.tensor([score]))


def test_a_fault_that_passes_is_retried(serve, make_group):
    statuses = iter([500, 429, 200])
    _, judge = serve(lambda prompt: (next(statuses), "Score: 5"), retries=2)
    assert judge(make_group("a")).tolist() == [0.5]


def test_nobody_there_and_a_wrong_key_are_one_sentence(serve, make_group):
    gone = ServedJudge("http://127.0.0.1:9/v1", "m", retries=0)
    with pytest.raises(JudgeError, match=r"the judge at http://127.0.0.1:9/v1: .* 1 × unreachable"):
        gone(make_group("a"))
    _, judge = serve(lambda _: (401, ""))
    with pytest.raises(JudgeError, match="it refuses requests: Error code: 401"):
        judge(make_group("a", "b"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompt": "{question}"}, r"\['question'\] are no fields; there are problem"),
        ({"prompt": "Reply { {completion}"}, "a brace of the text itself is doubled"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": "score"}, "first group"),
        ({"max_concurrency": 0}, "above 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        ServedJudge("http://127.0.0.1:9/v1", "m", **settings)
