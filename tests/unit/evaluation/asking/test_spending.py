"""What asking costs: tokens, prices, the limit; and how fast it may go."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ktr.errors import ConfigError, SpendingLimit
from ktr.evaluation.asking.pace import Pace
from ktr.evaluation.asking.spending import Price, Spending, price_of
from ktr.rollout.engine import SamplingParams
from tests.unit.evaluation.asking.fake_endpoint import Says, Serve, answered, ask, echo, number_of, takes


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


def test_each_request_of_an_ask_pays_for_the_prompt():
    vote = ask(0, sampling=SamplingParams(8, 1))
    vote, held = replace(vote, question=replace(vote.question, problem="Why is it so? " * 100)), []
    for n_per_request in (None, 1, 3):
        spending = Spending(Price(1000.0, 0.0), 0.01, 28 * 28 * 100, n_per_request)
        spending.take(vote)
        held.append(sum(spending._in_flight.values()))
    assert held == pytest.approx([held[0], 8 * held[0], 3 * held[0]], rel=0.01) and held[0] > 0


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


def test_requests_are_spread_over_the_minute():
    clock = iter([0.0, 0.0, 1.0, 1.5, 60.0])
    pace = Pace(30, lambda: next(clock))
    assert [pace.wait() for _ in range(4)] == [0.0, 1.0, 2.5, 0.0]
    assert [Pace(None).wait() for _ in range(3)] == [0.0] * 3
