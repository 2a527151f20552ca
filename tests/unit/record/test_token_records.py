"""Completions as JSON lines: complete, one entry for each token, and cut where a run resumes."""

import json

import pytest
import torch

from ktr.analysis.attribution_summary import attribution_summary, exclusive_fractions, selection_overlap
from ktr.errors import MissingData
from ktr.record.token_records import append_records, drop_records_after, read_records, token_records

from .conftest import LENGTHS, ROLES, decode, make_experience, make_records, make_scores, make_weights

ALL = ("entropy", "visual", "temporal")


def test_each_list_runs_over_the_tokens_of_its_completion():
    for record, length in zip(make_records(ALL, 5, with_roles=True), LENGTHS, strict=True):
        lists = [record[name] for name in ("tokens", "engine_logps", "logps", "entropies", "weights", "roles")]
        assert {len(values) for values in [*lists, *record["scores"].values()]} == {length}
        assert record["selected"]["temporal"] == [position for position in (1, 3) if position < length]
        assert record["step"] == 5 and record["weights_version"] == 3


def test_numbers_keep_five_significant_digits():
    scores = make_scores()
    records = token_records(make_experience(), make_weights(ALL), scores, decode, step=1)
    assert torch.allclose(torch.tensor(records[0]["logps"]), scores.logps_GT[0], rtol=1e-4)
    assert all(len(str(value)) <= 12 for value in records[0]["logps"])


def test_a_group_that_was_not_scored_keeps_its_completions():
    record = token_records(make_experience(), None, None, decode, step=1)[0]
    assert record["text"] and record["scores"] == {} and record["selected"] == {} and "logps" not in record


def test_a_decoder_that_joins_tokens_is_an_error():
    with pytest.raises(ValueError, match=r"question q1: 7 token ids but 1 tokens"):
        token_records(make_experience(), None, None, lambda ids: ["joined"], step=1)


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_resumed_run_appends_where_it_left_off(tmp_path, step):
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    by_step = {at: make_records(ALL, at, with_roles=False) for at in (1, 2, 3)}
    for at in (1, 2, 3):
        append_records(whole, by_step[at])
        append_records(resumed, by_step[at])
    with resumed.open("ab") as file:
        file.write('{"step":4,"text":"é'.encode()[:-1])  # torn by a kill, within a character
    assert len(list(read_records(resumed))) == 6
    drop_records_after(resumed, step)
    for at in range(step + 1, 4):
        append_records(resumed, by_step[at])
    assert resumed.read_bytes() == whole.read_bytes()


def test_of_a_long_file_the_newest_alone_are_read_as_records(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("what a report never comes to\n" * 3)
    for step in (1, 2, 3):
        append_records(path, make_records(ALL, step, with_roles=False))
    assert [record["step"] for record in read_records(path, newest=4)] == [2, 2, 3, 3]
    with path.open("ab") as file:
        file.write(b'{"step":4')
    assert [record["step"] for record in read_records(path, newest=3)] == [3, 3]


@pytest.mark.parametrize("line", ['{"step":1,"tok', "[1]", "\0\0\0"])
def test_a_line_that_is_no_record_is_named_whoever_reads_it(tmp_path, line):
    path = tmp_path / "r.jsonl"
    record = make_records(ALL, 1, with_roles=False)[0]
    append_records(path, [record])
    path.write_text(path.read_text() + line + "\n")
    append_records(path, [record])
    for read in (lambda: list(read_records(path)), lambda: drop_records_after(path, 1)):
        with pytest.raises(MissingData, match=r"r\.jsonl, line 2: .*; remove that line"):
            read()
    assert len(path.read_text().splitlines()) == 3  # nothing was cut off


def test_records_are_one_json_object_a_line(tmp_path):
    append_records(tmp_path / "r.jsonl", make_records(ALL, 1, with_roles=True))
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line)["completion"] for line in lines] == [0, 1]
    assert list(read_records(tmp_path / "none.jsonl")) == []


def test_fractions_and_overlaps_are_counts_over_all_tokens():
    overlap = selection_overlap(make_records(ALL, 1, with_roles=False))
    assert overlap["selected_fraction"] == pytest.approx({"entropy": 4 / 11, "temporal": 4 / 11, "visual": 4 / 11})
    assert overlap["union_fraction"] == pytest.approx(6 / 11)
    assert overlap["overlap"] == pytest.approx(
        {"entropy_temporal": 1 / 3, "entropy_visual": 1, "temporal_visual": 1 / 3}
    )
    shares = exclusive_fractions(make_records(ALL, 1, with_roles=False))
    assert sum(shares.values()) == pytest.approx(overlap["union_fraction"])
    assert shares[("entropy", "temporal", "visual")] == pytest.approx(2 / 11)


def test_aurocs_compare_each_signal_with_its_own_truth_and_leave_decisions_out():
    record = make_records(ALL, 1, with_roles=True)[0]
    content = [role in ("appearance", "order_motion") for role in ROLES]
    record["scores"]["visual"] = [9.0 if role == "decision" else float(c) for role, c in zip(ROLES, content)]
    record["scores"]["temporal"] = [float(role == "order_motion") for role in ROLES]
    record["scores"]["entropy"] = [float(role == "decision") for role in ROLES]
    summary = attribution_summary([record])
    for name in ("visual_auroc", "temporal_auroc", "temporal_specificity", "entropy_auroc"):
        assert summary[name] == 1.0, name
    record["scores"]["temporal"] = [float(role == "appearance") for role in ROLES]
    assert attribution_summary([record])["temporal_specificity"] == 0.0


def test_without_truth_or_signals_there_is_nothing_to_compare():
    assert "visual_auroc" not in attribution_summary(make_records(ALL, 1, with_roles=False))
    assert set(attribution_summary(make_records((), 1, with_roles=True))) == {"num_completions", "num_tokens"}
