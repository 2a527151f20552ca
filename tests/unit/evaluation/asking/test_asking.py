"""Items in, lines out: whatever the order of the answers, each item has one line, judged once."""

from collections.abc import Callable

import pytest

from ktr.data.prompts import PromptTemplate
from ktr.errors import ConfigError
from ktr.evaluation.asking.ask import Answered, Ask, Reply
from ktr.evaluation.asking.asking import Asking, missing_line
from ktr.evaluation.asking.decoding import OneRound, SparseToDense
from ktr.evaluation.asking.results import results
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.outcome import Outcome
from ktr.evaluation.rules.tempcompass import tempcompass
from ktr.rollout.engine import SamplingParams
from tests.unit.evaluation.asking.conftest import Scripted, item, question_of

AskingOf = Callable[..., Asking]
FIVE = SamplingParams(5, 8)


def test_each_item_has_one_line_with_its_outcome(asking_of: AskingOf):
    said = {"0": "A", "1": "B", "2": "no idea", "3": "", "4": "I'm sorry, I cannot help with that"}

    def reply(ask: Ask) -> Answered | str:
        if ask.item.id == "5":
            return Answered(ask, (Reply("the answer", cut_off=True),), num_frames=(8,))
        if ask.item.id == "6":
            return Answered(ask, outcome=Outcome.FAILED, reason="HTTP 500")
        return said[ask.item.id]

    lines = {line["id"]: line for line in asking_of([item(i) for i in range(7)]).lines(Scripted(reply))}
    outcomes = [lines[str(i)]["outcome"] for i in range(7)]
    assert outcomes == ["right", "wrong", "unparsable", "unparsable", "refused", "cut_off", "failed"]
    assert lines["6"]["output"] is None and lines["6"]["reason"] == "HTTP 500" and lines["1"]["prediction"] == "B"
    assert lines["0"]["num_frames"] == [8] and lines["0"]["finish_reason"] == "stop" and "rounds" not in lines["0"]
    summary = results("n", {"benchmark": {"name": "own"}, "rule": "lenient"}, [*lines.values()], "micro")["summary"]
    assert summary["n"] == 6 and summary["left_out"] == 1 and sum(summary["outcomes"].values()) == 7


def test_seeds_depend_on_the_run_the_round_and_the_item_alone(asking_of: AskingOf):
    def seeds(at_once: int, seed: int, count: int) -> dict[str, int]:
        answerer = Scripted(lambda ask: "A", at_once)
        list(asking_of([item(i) for i in range(count)], seed=seed).lines(answerer))
        return {ask.item.id: ask.seed for ask in answerer.asked}

    first, other = seeds(4, 0, 8), seeds(1, 0, 3)
    assert len(set(first.values())) == 8 and other.items() <= first.items() and seeds(4, 1, 8) != first


def test_a_vote_is_over_answers_and_the_first_of_equally_frequent_ones_counts(asking_of: AskingOf):
    texts = ["what?", "(B)", "the answer is A", "A", "hm"]
    (line,) = asking_of([item(0)], OneRound(8, FIVE)).lines(Scripted(lambda ask: texts))
    assert line["prediction"] == "A" and line["output"] == "the answer is A" and line["outcome"] == "right"
    assert line["rounds"][0]["predictions"] == (None, "B", "A", "A", None) and line["rounds"][0]["outputs"] == texts
    (tie,) = asking_of([item(0)], OneRound(8, FIVE)).lines(Scripted(lambda ask: ["?", "B", "A", "A", "B"]))
    assert tie["prediction"] == "B"
    caption = Item("c", Asked("A. running", "free-form", question="Generated Caption:"), item(0).media)
    (nothing,) = asking_of([item(0)], OneRound(8, FIVE)).lines(Scripted(lambda ask: ["?"] * 5))
    assert nothing["outcome"] == "unparsable"
    captions = Asking([caption], question_of, PromptTemplate(), OneRound(8, FIVE), tempcompass, 0)
    (empty,) = captions.lines(Scripted(lambda ask: ["", "<answer></answer>", "", "A man runs.", ""]))
    assert empty["output"] == "A man runs.", "no words are no vote"


def test_sparse_to_dense_doubles_until_all_agree(asking_of: AskingOf):
    decoding = SparseToDense(FIVE, first_frames=8, max_frames=32)
    by_frames = {8: ["A", "B", "A", "A", "A"], 16: ["B", "B", "A", "B", "?"], 32: ["B", "A", "A", "B", "A"]}
    answerer = Scripted(lambda ask: by_frames[ask.num_frames] if ask.item.id != "1" else ["B"] * 5)
    lines = {line["id"]: line for line in asking_of([item(0), item(1)], decoding).lines(answerer)}
    assert [each["num_frames"] for each in lines["0"]["rounds"]] == [8, 16, 32] and lines["0"]["prediction"] == "A"
    assert lines["0"]["num_frames"] == [32] and lines["0"]["prompt_tokens"] == 30
    assert [each["num_frames"] for each in lines["1"]["rounds"]] == [8] and lines["1"]["outcome"] == "wrong"
    assert len({ask.seed for ask in answerer.asked}) == len(answerer.asked)


@pytest.mark.parametrize("first_frames", [0, -2, 3, 64])
def test_first_frames_that_never_reach_the_most_are_refused(first_frames: int):
    with pytest.raises(ConfigError, match=rf"decoding\.first_frames={first_frames}: an even number"):
        SparseToDense(FIVE, first_frames, max_frames=32)


def test_a_video_without_more_frames_is_not_asked_again_and_a_failed_round_leaves_the_one_before(asking_of: AskingOf):
    decoding = SparseToDense(FIVE, first_frames=8, max_frames=32)

    def short(ask: Ask) -> Answered:
        return Answered(ask, tuple(map(Reply, "ABABA")), num_frames=(6,))

    answerer = Scripted(short)
    list(asking_of([item(0)], decoding).lines(answerer))
    assert len(answerer.asked) == 1

    def too_long(ask: Ask) -> Answered | list[str]:
        if ask.num_frames > 8:
            return Answered(ask, outcome=Outcome.FAILED, reason="the prompt has 9 tokens")
        return ["A", "A", "B", "?", "?"]

    (line,) = asking_of([item(0)], decoding).lines(Scripted(too_long))
    assert line["outcome"] == "right" and line["num_frames"] == [8] and line["reason"] == "the prompt has 9 tokens"


def test_a_missing_file_is_an_outcome_beside_n():
    result = results("n", {"benchmark": {"name": "own"}, "rule": "r"}, [missing_line(item(0), "0.mp4")], "micro")
    assert result["summary"]["n"] == 0 and result["summary"]["outcomes"]["media_missing"] == 1
    assert result["reasons"] == ["0: 0.mp4 is not there"]
