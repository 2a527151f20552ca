"""A judge is asked where no rule can read an answer, once, and the rule's outcome stays where it says nothing."""

from pathlib import Path

import pytest

from ktr.config.composing import compose
from ktr.data.prompts import PromptTemplate
from ktr.errors import ConfigError
from ktr.evaluation.asking.ask import Answered
from ktr.evaluation.asking.asking import about
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.asking.judge import Judge, refuse_verdicts
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

    again = Judge(Scripted(lambda ask: "yes"), PROMPT, "m")
    assert again.concerns(judged), "it is asked again the next time"
    (later,) = again.lines([judged])
    assert (later["outcome"], later["reason"], later["outcome_by_rule"]) == ("right", "", "unparsable")
    (failed,) = Judge(endpoint, PROMPT, "another").lines([later])
    assert (failed["outcome"], failed["score"], "judged_by" in failed) == ("unparsable", 0.0, False)


def test_another_judge_that_cannot_tell_leaves_nothing_of_the_first():
    half = line("3", "wrong", "free-form") | {"score": 0.4}
    (first,) = Judge(Scripted(lambda ask: "yes"), PROMPT, "m").lines([half])
    assert (first["outcome"], first["score"], first["score_by_rule"]) == ("right", 1.0, 0.4)
    (second,) = Judge(Scripted(lambda ask: "perhaps"), PROMPT, "another").lines([first])
    assert (second["outcome"], second["score"], second["judged_by"]) == ("wrong", 0.4, "another")


def test_another_prompt_judges_anew():
    (judged,) = Judge(Scripted(lambda ask: "yes"), PROMPT, "m").lines([LINES[2]])
    assert Judge(Scripted(lambda ask: ""), f"Be strict. {PROMPT}", "m").concerns(judged)
    before = {key: value for key, value in judged.items() if key != "judge_prompt"}  # of older lines it isn't known
    assert not Judge(Scripted(lambda ask: ""), PROMPT, "m").concerns(before)


def test_markers_of_media_are_plain_text_to_a_judge_who_sees_none():
    endpoint = Scripted(lambda ask: "yes")
    marked = LINES[2] | {"question": "Is <video> longer than <video>?", "output": "As <image> shows"}
    list(Judge(endpoint, PROMPT, "m").lines([marked]))
    (message,) = PromptTemplate("", {}).messages(endpoint.asked[0].question)
    assert message["content"] == [
        {"type": "text", "text": "Is [video] longer than [video]?|A. red\nB. blue|red|As [image] shows"}
    ]


def test_verdicts_are_not_told_as_those_of_the_rule(tmp_path: Path):
    judged = Judge(Scripted(lambda ask: "yes"), PROMPT, "gpt").lines([LINES[2]])
    refuse_verdicts(tmp_path, LINES)
    with pytest.raises(ConfigError, match=r"holds items that gpt judged: give that judge again .* or name=…"):
        refuse_verdicts(tmp_path, judged)


@pytest.mark.parametrize(
    ("prompt", "told"), [("{video}", r"\['video'\] are no fields"), ("Say {yes. {reply}", "text itself is doubled")]
)
def test_a_prompt_with_an_unknown_field_or_a_brace_of_its_own_is_refused(prompt: str, told: str):
    with pytest.raises(ConfigError, match=rf"judge\.prompt: .*{told}"):
        Judge(Scripted(lambda ask: ""), prompt, "m")


def test_the_shipped_judge_composes_and_has_a_prompt_of_its_own():
    judge = compose("evaluate", ["benchmark=mmvu_open", "judge=served", "judge.endpoint.model=gpt-4o"]).judge
    assert judge.name == "gpt-4o" and judge.endpoint.template.instruction == "" and "{reply}" in judge.prompt
