"""A served model is asked: how many at once, what its faults cost, where it stops, what it is sent."""

import base64
import io
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.video_utils import VideoMetadata

from ktr.data.prompts import PromptTemplate
from ktr.data.video import DecodedVideo, VideoReader, VideoSettings
from ktr.errors import ConfigError, EndpointError, SpendingLimit
from ktr.evaluation.asking.ask import Answered, Ask, Reply
from ktr.evaluation.asking.chat import ChatClient
from ktr.evaluation.asking.endpoint import EndpointAnswers
from ktr.evaluation.asking.flight import Flight
from ktr.evaluation.asking.frames_sent import MediaSender, sampled_of
from ktr.evaluation.asking.pace import Pace
from ktr.evaluation.asking.request import SentPrompt
from ktr.evaluation.asking.spending import Price, price_of
from ktr.evaluation.rules.outcome import Outcome
from ktr.policy.qwen2_5_vl.inputs import PromptEncoder
from ktr.rollout.engine import SamplingParams
from ktr.shapes.video_file import write_video
from ktr.types import MediaFile, VideoQuestion
from tests.unit.evaluation.asking.conftest import GREEDY, item
from tests.unit.evaluation.asking.fake_endpoint import (
    DROP,
    HANG,
    Answer,
    FakeEndpoint,
    Says,
    fault,
    says,
    text_of,
)  # fmt: skip

VIDEO = VideoSettings(num_frames=8, max_pixels=3136, min_pixels=3136)
KEY = "hush-0123456789"
Serve = Callable[..., tuple[FakeEndpoint, EndpointAnswers]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
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


def ask(number: int, *media: MediaFile, sampling: SamplingParams = GREEDY) -> Ask:
    question = VideoQuestion(str(number), f"Question {number}?", "free-form", "A", media)
    return Ask(item(number), question, 8, sampling, seed=number)


def takes(asks: Sequence[Ask]) -> Callable[[], Ask | None]:
    waiting = list(reversed(asks))
    return lambda: waiting.pop() if waiting else None


def answered(answers: EndpointAnswers, asks: Sequence[Ask]) -> dict[str, Answered]:
    found = {each.ask.question.id: each for each in answers.answers(takes(asks))}
    assert len(found) == len(asks)
    return found


def number_of(request: dict[str, Any]) -> int:
    return int(text_of(request).removeprefix("Question ").rstrip("?"))


def echo(request: dict[str, Any]) -> Says:
    return says(f"to {number_of(request)}")


def test_as_many_requests_as_allowed_are_in_flight_until_no_items_are_left(serve: Serve):
    total, served, most = 1000, 0, 0
    waiting: deque[threading.Event] = deque()
    lock = threading.Lock()

    def answer(request: dict[str, Any]) -> Says:
        """The oldest request is answered once all others are there that can be."""
        nonlocal served, most
        own = threading.Event()
        with lock:
            waiting.append(own)
            most = max(most, len(waiting))
            while waiting and len(waiting) >= min(64, total - served):
                waiting.popleft().set()
                served += 1
        assert own.wait(30), f"only {len(waiting)} requests are in flight, and {served} of {total} are answered"
        return echo(request)

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

    _, answers = serve(answer, time_limit_s=2.0, max_concurrency=4)
    found = answered(answers, [ask(number) for number in range(24)])
    failed = {int(id): each.reason for id, each in found.items() if each.outcome is Outcome.FAILED}
    assert failed == {6: "server error: no", 7: "busy: slow down", 8: "no reply of this API"}
    assert all(each.replies == (Reply(f"to {id}"),) for id, each in found.items() if int(id) not in failed)
    assert tried[2] == 2 and tried[6] == 3 and tried[10] == 1


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
    server, answers = serve(lambda request: said if number_of(request) == 2 else echo(request), max_concurrency=1)
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

    _, answers = serve(answer, max_concurrency=2, retries=0)
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


def test_tokens_and_cost_are_counted(serve: Serve):
    usage = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1100}  # Google's: 80 of reasoning

    def answer(request: dict[str, Any]) -> Says:
        said = echo(request)
        return said if number_of(request) else replace(said, body=said.body | {"usage": usage})

    _, answers = serve(answer, "gpt-4o")
    for each in answered(answers, [ask(0), ask(1)]).values():
        assert (each.prompt_tokens, each.completion_tokens) == (1000, 100) and each.seconds > 0
        assert each.cost == pytest.approx(0.0025 + 0.001)
    _, unpriced = serve(lambda request: replace(echo(request), body=echo(request).body | {"usage": None}))
    assert answered(unpriced, [ask(0)])["0"].cost is None


def test_at_the_spending_limit_nothing_more_is_asked_and_what_is_in_flight_is_handed_on(serve: Serve):
    server, answers = serve(echo, "gpt-4o", spending_limit=0.05, max_concurrency=4)
    asks, done = [ask(number) for number in range(100)], []
    with pytest.raises(
        SpendingLimit, match=r"0\.05\d\d dollars are spent, and endpoint\.spending_limit=0\.05"
    ) as raised:
        for each in answers.answers(takes(asks)):
            done.append(each)
    spent = sum(each.cost for each in done)
    assert raised.value.spent == pytest.approx(spent) and len(done) == len(server.requests)
    assert 0.05 <= spent < 0.05 + 0.0035
    _, all_of_it = serve(echo, "gpt-4o", spending_limit=0.0035 * 8)
    assert len(answered(all_of_it, asks[:8])) == 8, "a run that asks all it wanted ends well at its limit too"


def test_an_estimate_holds_asks_back_until_what_is_in_flight_has_ended(serve: Serve):
    dear = SamplingParams(1, 100_000, temperature=0.0)  # a dollar at most, 0.0035 in the end
    most, now, lock = 0, 0, threading.Lock()

    def answer(request: dict[str, Any]) -> Says:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        said = echo(request)
        with lock:
            now -= 1
        return said

    _, answers = serve(answer, "gpt-4o", spending_limit=2.5)
    assert len(answered(answers, [ask(number, sampling=dear) for number in range(20)])) == 20
    assert most <= 3


def test_a_consumer_that_stops_cancels_all_and_leaves_no_thread(serve: Serve):
    arrived = threading.Semaphore(0)

    def answer(request: dict[str, Any]) -> Says:
        if number_of(request) == 0:
            return echo(request)
        arrived.release()
        return HANG

    before = set(threading.enumerate())
    server, answers = serve(answer, max_concurrency=5)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    generator = np.random.default_rng(0)
    for name, (num_frames, height, width) in {"a": (24, 90, 130), "b": (5, 56, 56), "c": (40, 200, 64)}.items():
        write_video(
            generator.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8), folder / f"{name}.mp4", 3
        )
    Image.fromarray(generator.integers(0, 256, (77, 140, 3), dtype=np.uint8)).save(folder / "d.png")
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


def pixels_of(part: dict[str, Any]) -> np.ndarray:
    """The frames of a part of a message, as whoever is sent it decodes them."""
    head, *files = part[part["type"]]["url"].split(",")
    assert head in ("data:image/png;base64", "data:video/jpeg;base64")
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(file, validate=True)))) for file in files])


@pytest.mark.parametrize("frames_as", ["images", "video"])
@pytest.mark.parametrize("bounds", [(3136, 3136), (784, 12544)])
def test_what_is_sent_decodes_to_the_pixels_that_the_policy_sees(
    frames_as: Any, bounds: tuple[int, int], folder: Path, policy_folder: Path, serve: Serve
):
    settings = VideoSettings(num_frames=8, min_pixels=bounds[0], max_pixels=bounds[1])
    reader = VideoReader(settings)
    encoder = PromptEncoder(policy_folder, PromptTemplate("", {}), reader, max_prompt_tokens=960)
    media = [MediaFile(folder / "d.png", "image"), *(MediaFile(folder / f"{name}.mp4") for name in "abc")]
    sender = MediaSender(reader, 28, frames_as).apart(8)
    for file in media:
        seen = encoder.frames(encoder.encode(VideoQuestion("0", "color ?", "free-form", "red", (file,))))[0]
        sent = sender.send(file)
        shown = np.concatenate([pixels_of(part) for part in sent.parts])
        assert shown.dtype == np.uint8 and np.array_equal(shown, seen)
        assert sent.num_frames == len(seen) and len(sent.parts) == (1 if frames_as == "video" else len(seen))


def test_media_stand_in_the_text_where_the_policy_has_them_and_a_file_that_is_broken_is_told(
    serve: Serve, folder: Path
):
    server, answers = serve(lambda _: says("A"))
    two = replace(
        ask(0, MediaFile(folder / "a.mp4"), MediaFile(folder / "d.png", "image")).question,
        problem="In <video> is <image>?",
    )
    broken = replace(ask(1).question, media=(MediaFile(folder / "broken.mp4"),))
    special = replace(ask(2).question, problem="<|im_end|> ?")
    found = answered(answers, [replace(ask(0), question=each) for each in (two, broken, special)])
    kinds = [part["type"] for part in server.requests[0]["messages"][0]["content"]]
    assert kinds == ["text", *["image_url"] * 8, "text", "image_url", "text"]
    assert found["0"].num_frames == (8, 1) and found["1"].outcome is Outcome.MEDIA_MISSING
    assert "special token <|im_end|>" in found["2"].reason and len(server.requests) == 1


def test_vllm_is_told_when_frames_were_and_of_one_rate(serve: Serve, folder: Path):
    server, answers = serve(lambda _: says("A"), frames_as="video")
    mixed = ask(1, MediaFile(folder / "a.mp4"), MediaFile(folder / "c.mp4"))
    found = answered(answers, [ask(0, MediaFile(folder / "a.mp4")), mixed])
    (request,) = server.requests
    sampled = request["media_io_kwargs"]["video"]
    assert sampled["total_num_frames"] == 24 and len(sampled["frames_indices"]) == 8 and sampled["num_frames"] == -1
    assert found["1"].outcome is Outcome.FAILED and "frames_as=images" in found["1"].reason


@pytest.mark.parametrize(
    ("indices", "fps", "total", "seconds", "is_constant"),
    [
        ((0, 7, 14, 21), 29.97, 24, (), True),
        ((0, 1, 2, 2), 3.0, 3, (), True),
        ((0, 5, 9, 20), 12.0, 21, (0.0, 0.5, 0.8, 2.0), False),
    ],
)
def test_vllm_computes_the_time_between_temporal_patches_that_the_encoder_does(
    indices: tuple[int, ...], fps: float, total: int, seconds: tuple[float, ...], is_constant: bool
):
    frames = np.zeros((len(indices), 28, 28, 3), dtype=np.uint8)
    video = DecodedVideo(frames, indices, fps, total, Path("v"), seconds, is_constant)
    told = sampled_of(video)
    places = told.get("frames_indices", list(range(len(indices))))
    metadata = VideoMetadata(told.get("total_num_frames", len(indices)), told["fps"], frames_indices=places)
    assert 2 / metadata.sampled_fps == pytest.approx(video.seconds_per_temporal_patch(2), rel=1e-15)


def test_requests_are_spread_over_the_minute():
    clock = iter([0.0, 0.0, 1.0, 1.5, 60.0])
    pace = Pace(30, lambda: next(clock))
    assert [pace.wait() for _ in range(4)] == [0.0, 1.0, 2.5, 0.0]
    assert [Pace(None).wait() for _ in range(3)] == [0.0] * 3


def test_prices_are_by_the_model_s_name_and_no_other_s(tmp_path: Path):
    assert price_of("gpt-4o") == price_of("gpt-4o-2024-08-06") == Price(2.5, 10.0)
    assert price_of("gpt-4o-mini") == Price(0.15, 0.6) and price_of("gpt-4o-2024-05-13") == Price(5.0, 15.0)
    assert price_of("models/gemini-2.5-pro") == price_of("gemini-2.5-pro-preview-05-06") == Price(1.25, 10.0)
    assert [price_of(name) for name in ("gpt-5-pro", "gpt-5.1", "gpt-4", "mine")] == [None] * 4
    file = tmp_path / "prices.json"
    file.write_text('{"mine": {"input": 1, "output": 2}}')
    assert price_of("mine", str(file)) == Price(1.0, 2.0) and price_of("gpt-4o", str(file)) is None
    file.write_text('{"mine": {"input": 1}}')
    with pytest.raises(ConfigError, match=r"endpoint\.prices=.*prices\.json: cannot be read \(KeyError"):
        price_of("mine", str(file))


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
