"""Held-out accuracy counts each question once, by category, with its interval."""

import pytest

from ktr.errors import MissingData
from ktr.evaluation.accuracy import AccuracyMeter, Verdict, summarize
from ktr.rollout.engine import SamplingParams

SAMPLING = SamplingParams(num_completions=1, max_tokens=4)


def test_a_question_that_two_ranks_answered_counts_once():
    meter = AccuracyMeter(SAMPLING)
    meter.add([Verdict("a", "nth", 1.0, True, 5), Verdict("b", "shape", 0.0, False, 7)])
    meter.add([Verdict("a", "nth", 1.0, True, 5)])
    summary = meter.summary()
    assert summary["n"] == 2 and summary["accuracy"] == 0.5 and summary["format"] == 0.5
    assert summary["low"] < 0.5 < summary["high"]
    assert summary["completion_length"] == 6
    assert summary["by_category"] == {
        "nth": {"accuracy": 1.0, "n": 1},
        "shape": {"accuracy": 0.0, "n": 1},
    }


def test_a_meter_is_empty_after_its_summary():
    meter = AccuracyMeter(SAMPLING)
    meter.add([Verdict("a", "nth", 1.0, True, 5)])
    meter.summary()
    assert not meter.verdicts


def test_nothing_answered_has_no_accuracy():
    assert summarize([])["accuracy"] is None
    with pytest.raises(MissingData, match=r"none of the held-out questions can be asked: skips\.jsonl"):
        AccuracyMeter(SAMPLING).summary()


def test_partial_credit_adds_up():
    assert summarize([Verdict("a", "x", 0.25, True, 1), Verdict("b", "x", 0.5, True, 1)])["accuracy"] == pytest.approx(
        0.375
    )
