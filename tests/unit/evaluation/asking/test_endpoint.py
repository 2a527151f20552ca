"""A served model is asked: how many at once, what its faults cost, where it stops, what it is sent."""

import threading
from collections import Counter, deque
from typing import Any

import pytest

from ktr.data.prompts import PromptTemplate
from ktr.errors import ConfigError, EndpointError
from ktr.evaluation.asking.ask import Answered, Ask, Reply
from ktr.evaluation.asking.chat import ChatClient, Heard
from ktr.evaluation.asking.endpoint import EndpointAnswers
from ktr.evaluation.asking.flight import Flight
from ktr.evaluation.asking.request import SentPrompt
from ktr.evaluation.rules.outcome import Outcome
from ktr.rewards.served_model import client_of
from ktr.rollout.engine import SamplingParams
from tests.unit.evaluation.asking.fake_endpoint import (
    DROP,
    HANG,
    KEY,
    VIDEO,
    Says,
    Serve,
    answered,
    ask,
    echo,
    fault,
    number_of,
    says,
    takes,
)


def test_as_many_requests_as_allowed_are_in_flight_until_no_items_are_left(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    total, served, now, most = 1000, 0, 0, 0
    waiting: deque[threading.Event] = deque()
    lock = threading.Lock()

    def answer(request: dict[str, Any]) -> Says:
        """The oldest request is answered once all others are there that can be."""
        nonlocal served
        own = threading.Event()
        with lock:
            waiting.append(own)
            while waiting and len(waiting) >= min(64, total - served):
                waiting.popleft().set()
                served += 1
        assert own.wait(30), f"only {len(waiting)} requests are in flight, and {served} of {total} are answered"
        return echo(request)

    async def counted(self: ChatClient, fields: Any) -> Heard:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        heard = await send(self, fields)
        now -= 1
        return heard

    send = ChatClient.ask
    monkeypatch.setattr(ChatClient, "ask", counted)
    server, answers = serve(answer, max_concurrency=64)
    found = answered(answers, [ask(number) for number in range(total)])
    assert most == 64 and len(server.requests) == total
    assert all(each.replies == (Reply(f"to {id}"),) for id, each in found.items())


def test_faults_that_pass_cost_no_item_its_place_and_those_that_stay_are_told(serve: Serve):
    schedule = {
        0: [fault(429)], 1: [fault(500), fault(503)], 2: [HANG], 3: [Says(b"<html>")], 4: [says()], 5: [DROP],
        6: [fault(500)] * 3, 7: [fault(429, "slow down")] * 3, 8: [Says({"choices": "none"})] * 3, 9: [Says([])],
    }  # fmt: skip
    tried: Counter[int] = Counter()

    def answer(request: dict[str, Any]) -> Says:
        number = number_of(request)
        tried[number] += 1
        said = schedule.get(number, [])
        return said[tried[number] - 1] if tried[number] <= len(said) else echo(request)

    _, answers = serve(answer, time_limit_s=4.0, max_concurrency=4)
    found = answered(answers, [ask(number) for number in range(24)])
    failed = {int(id): each.reason for id, each in found.items() if each.outcome is Outcome.FAILED}
    assert failed == {6: "server error: no", 7: "busy: slow down", 8: "no reply of this API"}
    assert all(each.replies == (Reply(f"to {id}"),) for id, each in found.items() if int(id) not in failed)
    assert tried[2] == 2 and tried[6] == 3


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (fault(401, f"Incorrect API key provided: {KEY}."), r"\(401: Incorrect API key provided: …\.\)"),
        (fault(403, "not for you"), r"\(403: not for you\)"),
        (fault(404, "The model m does not exist"), r"\(404: The model m does not exist\)"),
        (fault(429, "You exceeded your quota", code="insufficient_quota"), "You exceeded your quota"),
        (fault(400, "'max_tokens' is not supported", code="unsupported_parameter"), "'max_tokens' is not"),
        (fault(400, "temperature is 1", param="temperature"), "temperature is 1"),
        (Says([{"error": {"code": 400, "message": "API key not valid."}}], 400), "API key not valid"),
        (Says([{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}], 400), "Unknown name"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)  # fmt: skip
def test_what_is_refused_to_all_stops_at_the_first_item_with_one_sentence(serve: Serve, said: Says, words: str):
    one_by_one = {"max_concurrency": 1, "num_decoders": 1}
    server, answers = serve(lambda request: said if number_of(request) == 2 else echo(request), **one_by_one)
    done = []
    with pytest.raises(EndpointError, match=words) as raised:
        for each in answers.answers(takes([ask(number) for number in range(40)])):
            done.append(each)
    told = str(raised.value)
    assert KEY not in told and "variable OPENAI_API_KEY" in told and server.url in told and "not set" not in told
    assert [each.ask.question.id for each in done] == ["0", "1"] and len(server.requests) < 8


def test_a_key_that_is_not_set_is_said_to_be(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    _, answers = serve(lambda _: fault(401), key_variable="MY_KEY")
    with pytest.raises(EndpointError, match="variable MY_KEY, which is not set"):
        answered(answers, [ask(0)])


def test_an_endpoint_that_answers_nobody_stops_the_run_and_its_items_stay_unasked(serve: Serve):
    done: list[Answered] = []

    def answer(request: dict[str, Any]) -> Says:
        return echo(request) if number_of(request) < 5 else fault(503, "restarting")

    _, answers = serve(answer, max_concurrency=1, num_decoders=1, retries=0)  # one after the other
    with pytest.raises(EndpointError, match=r"16 items in a row got no reply \(server error: restarting\)"):
        for each in answers.answers(takes([ask(number) for number in range(100)])):
            done.append(each)
    assert sorted(each.ask.question.id for each in done) == [*"01234"]
    gone = EndpointAnswers("m", PromptTemplate(), VIDEO, "http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(EndpointError, match=r"http://127.0.0.1:9/v1: 3 items in a row got no reply \(unreachable\)"):
        answered(gone, [ask(number) for number in range(3)])


def test_what_a_reply_says_of_itself_becomes_its_outcome(serve: Serve):
    replies = {
        0: says("A", finish="length"), 1: says(None, refusal="I'm sorry"), 2: says("half", finish="content_filter"),
        3: says(""), 4: says(None, finish="length"), 5: fault(400, "of the policy", code="content_filter"),
        6: fault(400, "maximum context length is 9\ntokens", code="context_length_exceeded", param="messages"),
        7: fault(413, "x" * 900), 8: fault(400, "bad image", param="input_tokens"),
    }  # fmt: skip
    _, answers = serve(lambda request: replies[number_of(request)])
    found = answered(answers, [ask(number) for number in replies])
    assert found["0"].replies == (Reply("A", cut_off=True),) and found["4"].replies == (Reply("", cut_off=True),)
    assert found["3"].replies == (Reply(""),)
    refused = {id: each.reason for id, each in found.items() if each.outcome is Outcome.REFUSED}
    assert refused == {"1": "I'm sorry", "2": "its content filter", "5": "of the policy"}
    failed = {id: each.reason for id, each in found.items() if each.outcome is Outcome.FAILED}
    assert failed["6"] == "refused: maximum context length is 9 tokens" and failed["8"] == "refused: bad image"
    assert len(failed["7"]) < 220 and set(failed) == {"6", "7", "8"}


def test_a_reply_in_parts_is_its_text_and_a_fault_under_status_200_is_told(serve: Serve):
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "It is B."}]}
    parts = says(None, content=[thought, {"type": "text", "text": "<answer>"}, {"type": "text", "text": "A</answer>"}])
    replies = {0: parts, 1: Says({"error": {"message": f"Upstream is down; key {KEY}", "code": 502}}), 2: Says({})}
    _, answers = serve(lambda request: replies[number_of(request)], retries=0)
    found = answered(answers, [ask(number) for number in replies])
    assert found["0"].replies == (Reply("<answer>A</answer>"),)
    assert found["1"].reason == "no reply of this API: Upstream is down; key …"
    assert found["2"].reason == "no reply of this API"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::]"])
def test_no_proxy_is_asked_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not client_of(f"http://{host}:8000/v1", "KTR_NO_KEY", 1.0, 0)._client._mounts


def test_several_completions_are_asked_for_as_the_endpoint_takes_them(serve: Serve):
    five = SamplingParams(5, 32, temperature=0.7, top_p=0.9)
    server, answers = serve(lambda request: says(*"ABCDE"[: request.get("n", 1)]))
    together = answered(answers, [ask(7, sampling=five)])["7"]
    assert [reply.text for reply in together.replies] == [*"ABCDE"] and together.prompt_tokens == 1000
    (request,) = server.requests
    assert request.items() >= {"n": 5, "seed": 7, "temperature": 0.7, "top_p": 0.9, "max_tokens": 32}.items()
    server, answers = serve(lambda request: says(*"ABCDE"[: request.get("n", 1)]), n_per_request=2)
    parts = answered(answers, [ask(7, sampling=five)])["7"]
    assert [reply.text for reply in parts.replies] == [*"ABABA"] and parts.completion_tokens == 300
    assert sorted((each.get("n", 1), each["seed"]) for each in server.requests) == [(1, 11), (2, 7), (2, 9)]
    _, answers = serve(lambda _: says("A"))
    few = answered(answers, [ask(7, sampling=five)])["7"]
    assert few.outcome is Outcome.FAILED and "1 of 5 completions" in few.reason


def test_fields_that_an_endpoint_refuses_are_left_out_and_further_ones_sent(serve: Serve):
    server, answers = serve(
        echo, token_limit_as="max_completion_tokens", send_temperature=False, send_seed=False,
        extra={"reasoning_effort": "low"},
    )  # fmt: skip
    answered(answers, [ask(0)])
    messages = [{"role": "user", "content": [{"type": "text", "text": "Question 0?"}]}]
    fields = {"model": "m", "max_completion_tokens": 8, "reasoning_effort": "low", "messages": messages}
    assert server.requests == [fields] and server.keys == {f"Bearer {KEY}"}


def test_a_consumer_that_stops_cancels_all_and_leaves_no_thread(serve: Serve):
    arrived = threading.Semaphore(0)

    def answer(request: dict[str, Any]) -> Says:
        if number_of(request) == 0:
            return echo(request)
        arrived.release()
        return HANG

    before = set(threading.enumerate())
    server, answers = serve(answer, max_concurrency=5, num_decoders=1)
    going = answers.answers(takes([ask(number) for number in range(50)]))
    assert next(going).ask.question.id == "0"
    assert all(arrived.acquire(timeout=30) for _ in range(5))
    answers.close()
    own = ("endpoint", "decode")
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith(own)]
    assert len(server.requests) == 6 and next(going, None) is None
    answers.close()


def test_a_slow_video_holds_up_no_request_and_few_prompts_wait(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    others_done, read = threading.Event(), Flight._read
    taken = 0

    def slowly(self: Flight, one: Ask) -> SentPrompt | Answered:
        if one.question.id == "0":
            assert others_done.wait(30), "the others wait for this one"
        return read(self, one)

    monkeypatch.setattr(Flight, "_read", slowly)
    _, answers = serve(echo, max_concurrency=3, num_decoders=2)
    asks = [ask(number) for number in range(30)]
    take = takes(asks)

    def counted() -> Ask | None:
        nonlocal taken
        one = take()
        taken += one is not None
        return one

    order = []
    for each in answers.answers(counted):
        order.append(each.ask.question.id)
        assert taken - len(order) <= 3 + 2 * 2
        if len(order) == 29:
            others_done.set()
    assert order[-1] == "0" and len(order) == 30


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spending_limit": 5.0}, r"no price of m is known; give endpoint\.prices"),
        ({"max_concurrency": 0}, r"endpoint\.max_concurrency=0: give a number above 0"),
        ({"requests_per_minute": -1.0}, r"endpoint\.requests_per_minute=-1\.0"),
        ({"retries": -1}, "give 0 or more"),
        ({"base_url": "127.0.0.1:8000"}, "give http"),
        ({"base_url": f"http://me:{KEY}@host/v1"}, r"base_url at host has a name or a query"),
        ({"base_url": f"http://host/v1?key={KEY}"}, r"base_url at host has a name or a query"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as raised:
        EndpointAnswers(
            **{"model": "m", "template": PromptTemplate(), "video": VIDEO, "base_url": "http://h/v1"} | settings
        )
    assert KEY not in str(raised.value)
