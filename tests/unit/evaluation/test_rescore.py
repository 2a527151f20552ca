"""Replies on disk are scored again: other projects' fields, duplicates of a resumed run, and what has no reply."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ktr.errors import ConfigError, MissingData
from ktr.evaluation.records import read_replies
from ktr.evaluation.rescore import rescore, scored
from ktr.evaluation.rules.named import RULES
from ktr.evaluation.rules.outcome import Judgement, Outcome
from ktr.evaluation.score_table import accuracy_lines
from ktr.evaluation.scores import Scored, summarize

FIELDS: Mapping[str, Any] = {}
OWN = {"id": "1", "output": "<answer>B</answer>", "answer": "B", "options": ["A. x", "B. y"], "subtask": "s"}
QUESTION = {
    "problem_id": 1, "problem": "Q?", "problem_type": "multiple choice", "original_question_type": "OCR",
    "options": ["A. x", "B. y"], "solution": "<answer>B</answer>", "video": "/a.mp4",
}  # fmt: skip
THEIRS = {"question": QUESTION, "ground_truth": "<answer>B</answer>", "model_output": "B", "accuracy_score": 1.0}


def save(folder: Path, rows: Any, name: str = "items.jsonl") -> Path:
    file = folder / name
    text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows)
    file.write_text(text)
    return file


def config(file: Path, **more: Any) -> dict[str, Any]:
    return {
        "rescore": str(file),
        "rule": "video_r1",
        "metric": "micro",
        "fields": {},
        "output": None,
        "against": None,
    } | more


def outcomes(file: Path, rule: str = "video_r1", fields: Mapping[str, Any] = FIELDS) -> list[str]:
    return [item.judgement.outcome.value for item in scored(read_replies(file, fields).replies, RULES[rule])]


@pytest.mark.parametrize("rows", [[OWN], [THEIRS], [QUESTION | {"output": "B"}]], ids=["ours", "nested", "flat"])
@pytest.mark.parametrize("name", ["items.jsonl", "items.json", "object.json"])
def test_usual_names_of_fields_are_found(rows: list[dict[str, Any]], name: str, tmp_path: Path):
    file = save(tmp_path, {"results": rows, "final": 1} if name == "object.json" else rows, name)
    (reply,) = read_replies(file, {}).replies
    assert reply.id == "1" and reply.subtask in ("s", "OCR") and outcomes(file) == ["right"]


def test_fields_can_be_named_also_inside_of_others(tmp_path: Path):
    file = save(tmp_path, [{"a.b": "C", "x": {"right": "C", "ids": [7, 8]}, "part": 1}])
    fields = {"output": "a.b", "answer": "x.right", "id": ["part", "x.ids"]}
    assert outcomes(file, fields=fields) == ["right"]
    assert read_replies(file, fields).replies[0].id == "1/[7, 8]"
    with pytest.raises(ConfigError, match=r"fields\.answer: no record of .* name one of its keys: a\.b, x, part"):
        read_replies(file, {"output": "a.b", "answer": "nope"})


def test_a_record_that_is_there_again_counts_once_and_the_last_counts(tmp_path: Path):
    again = THEIRS | {"model_output": "A"}
    other = THEIRS | {"question": QUESTION | {"problem": "Another?"}}  # of a file whose ids count anew
    read = read_replies(save(tmp_path, [again, other, THEIRS]), {})
    assert (len(read.replies), read.duplicates, read.shared_ids) == (2, 1, 1)
    assert outcomes(save(tmp_path, [again, THEIRS])) == ["right"]
    assert outcomes(save(tmp_path, [THEIRS, again])) == ["wrong"]
    without = [{"output": "B", "answer": "B"}] * 3
    assert outcomes(save(tmp_path, without)) == ["right"] * 3
    save(tmp_path, without, "more.jsonl")
    assert outcomes(tmp_path) == ["right"] * 6, "records without an id are apart in each file of a folder"


def test_a_list_that_a_record_holds_is_no_list_of_records(tmp_path: Path):
    samples = {"samples": ["A", "B"], "results": [OWN | {"output": "A"}]}
    assert outcomes(save(tmp_path, [OWN | samples, OWN | samples | {"id": "2"}])) == ["right", "right"]


def test_a_refusal_without_a_text_counts_as_it_did_when_it_was_asked(tmp_path: Path):
    rows = [OWN, OWN | {"id": "2", "output": None, "outcome": "refused"}, OWN | {"id": "3", "outcome": "refused"}]
    assert outcomes(save(tmp_path, rows)) == ["right", "refused", "right"]
    assert "all          3     66.67" in rescore(config(save(tmp_path, rows)))


def test_what_has_no_reply_is_left_out_and_said(tmp_path: Path):
    rows = [
        OWN, OWN | {"id": "2", "output": None, "outcome": "media_missing"}, OWN | {"id": "3", "output": None},
        OWN | {"id": "4", "output": "It is lo", "finish_reason": "length"},
        OWN | {"id": "5", "output": "<answer>A</answer>"},
    ]  # fmt: skip
    file = save(tmp_path, rows)
    assert outcomes(file) == ["right", "media_missing", "failed", "cut_off", "wrong"]
    table = rescore(config(file, output=str(tmp_path / "out.json")))
    assert "2 without a reply are left out; with them as wrong it is 20.00" in table
    figures = json.loads((tmp_path / "out.json").read_text())["rules"]["video_r1"]
    assert (figures["n"], figures["left_out"], figures["accuracy"]) == (3, 2, 1 / 3)
    assert figures["outcomes"]["cut_off"] == 1 and sum(figures["outcomes"].values()) == 5


def test_several_rules_are_several_tables(tmp_path: Path):
    told = rescore(
        config(save(tmp_path, [OWN | {"output": "The answer is B."}, [], "x"]), rule=["video_r1", "lenient"])
    )
    assert "rule video_r1" in told and "1 unparsable" in told and "rule lenient" in told and "1 right" in told
    assert "skipped: 2 records" in told
    with pytest.raises(MissingData, match="holds no record"):
        rescore(config(save(tmp_path, [])))


def test_two_files_of_records_are_compared_item_by_item(tmp_path: Path):
    good = save(tmp_path, [OWN | {"id": str(n)} for n in range(4)])
    bad = save(tmp_path, [OWN | {"id": str(n), "output": "<answer>A</answer>"} for n in range(3)], "bad.jsonl")
    told = rescore(config(good, against=str(bad)))
    assert "3 items in common" in told and "3 are right here alone, 0 there alone; McNemar's p = 0.25" in told
    assert "difference +100.00" in told
    failed = save(tmp_path, [OWN | {"id": str(n), "output": None if n else "B"} for n in range(4)], "failed.jsonl")
    assert "1 items in common, about 1 videos\n0 are right here alone" in rescore(config(good, against=str(failed)))


def of(subtask: str, score: float, prediction: str | None = "A", is_regression: bool = False) -> Scored:
    outcome = Outcome.RIGHT if score == 1 else Outcome.WRONG
    return Scored("", Judgement(prediction, outcome, score), subtask, "", is_regression)


def test_accuracies_have_intervals_and_regressions_stand_apart():
    items = [of("a", 1), of("a", 0), of("b", 1), of("n", 0.5, is_regression=True)]
    summary = summarize(items, "macro")
    assert summary["accuracy"] == 2 / 3 and summary["mra"] == 0.5 and summary["by_subtask"]["a"]["accuracy"] == 0.5
    assert summary["by_subtask"]["n"]["accuracy"] is None and summary["macro"] == summary["official"]["value"] == 2 / 3
    assert 0 < summary["accuracy_low"] < 2 / 3 < summary["accuracy_high"] < 1
    told = accuracy_lines([("all", summary)])
    assert [line.split()[:3] for line in told[1:]] == [["all", "3", "66.67"], ["all", "1", "50.00"]]
    assert summarize([])["accuracy"] is None and summarize([])["official"]["value"] is None


def test_official_metrics_are_those_of_the_scripts():
    levels = [of("object_rel_direction_easy", 1), of("object_rel_direction_hard", 0), of("route_planning", 1)]
    assert summarize(levels, "vsi_bench")["official"]["value"] == 0.75
    assert summarize([of("", 1), of("", 0, None)], "answered")["official"]["value"] == 1
    assert summarize([of("", 1), of("", 0, None)], "micro")["official"]["value"] == 0.5
