"""A judge is asked where no rule can read an answer, once, and the rule's outcome stays where it says nothing."""

import pytest

from ktr.config.composing import compose
from ktr.errors import ConfigError
from ktr.evaluation.asking.ask import Answered
from ktr.evaluation.asking.asking import about
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.asking.judge import Judge
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.outcome import Outcome
from tests.unit.evaluation.asking.conftest import Scripted

PROMPT = "{question}|{options}|{answer}|{reply}"


def line(id: str, outcome: str, kind: str = "multiple choice", output: str | None = "the {red} one") -> Line:
    asked = Asked("A", kind, ("A. red", "B. blue") if kind == "multiple choice" else (), "red", "Which?")
    score = float(outcome == "right")
    return about(Item(id, asked, ())) | {
        "outcome": outcome,
        "output": output,
        "score": score,
        "cost": None,
        "reason": "",
    }


LINES = [
    line("0", "right"), line("1", "wrong"), line("2", "unparsable"), line("3", "wrong", "free-form"),
    line("4", "failed", output=None), line("5", "unparsable", "free-form"), line("6", "cut_off"),
]  # fmt: skip


def test_what_no_rule_reads_is_judged_and_nothing_else():
    said = {"2": "Yes.", "3": "no", "5": "It depends"}
    endpoint = Scripted(lambda ask: said[ask.item.id])
    judged = {each["id"]: each for each in Judge(endpoint, PROMPT, "m").lines(LINES)}
    assert {id: (each["outcome"], each["score"], each["outcome_by_rule"]) for id, each in judged.items()} == {
        "2": ("right", 1.0, "unparsable"), "3": ("wrong", 0.0, "wrong"), "5": ("unparsable", 0.0, "unparsable")
    }  # fmt: skip
    texts = {ask.item.id: ask.question.problem for ask in endpoint.asked}
    assert texts["2"] == "Which?|A. red\nB. blue|red|the {red} one" and endpoint.closed
    assert all(ask.question.media == () and ask.sampling.temperature == 0 for ask in endpoint.asked)
    again = Judge(endpoint, PROMPT, "m")
    assert not any(map(again.concerns, judged.values())) and again.concerns(LINES[2])
    other = Judge(endpoint, PROMPT, "another")
    assert all(map(other.concerns, judged.values())), "another judge judges anew what the rule left"


def test_a_judge_that_fails_leaves_the_rules_outcome_and_says_why():
    endpoint = Scripted(lambda ask: Answered(ask, outcome=Outcome.FAILED, reason="HTTP 500"))
    (judged,) = Judge(endpoint, PROMPT, "m").lines([LINES[2]])
    assert judged["outcome"] == "unparsable" and judged["reason"] == "HTTP 500"


def test_a_prompt_with_an_unknown_field_is_refused():
    with pytest.raises(ConfigError, match=r"judge\.prompt: \['video'\] are no fields"):
        Judge(Scripted(lambda ask: ""), "{video}", "m")


def test_the_shipped_judge_composes_and_has_a_prompt_of_its_own():
    judge = compose("evaluate", ["benchmark=mmvu_open", "judge=served", "judge.endpoint.model=gpt-4o"]).judge
    assert judge.name == "gpt-4o" and judge.endpoint.template.instruction == "" and "{reply}" in judge.prompt
