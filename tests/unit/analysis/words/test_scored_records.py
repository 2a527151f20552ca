"""Files of records that are whole, damaged, growing, or without scores."""

import json
from pathlib import Path

import pytest

from ktr.analysis.words.scored_records import Counts, scored_records, source_of
from ktr.errors import ConfigError, MissingData

from .conftest import make_record, write_records

WHOLE = make_record("a", "one two three", (0,), (1,))
UNSCORED = WHOLE | {"scores": {}, "selected": {}}


def read(path: Path) -> tuple[list[dict], Counts]:
    counts = Counts()
    return list(scored_records(path, counts)), counts


@pytest.mark.parametrize("keep", [1, 40, -2, -1])
def test_a_line_that_is_cut_off_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: int):
    path = write_records(tmp_path / "rollouts.jsonl", [WHOLE, WHOLE, WHOLE])
    whole = path.read_bytes()
    size = len(whole) // 3
    path.write_bytes(whole[: 2 * size] + whole[2 * size :][:keep])
    records, counts = read(path)
    if keep == -1:  # all but the end of the line: nothing is lost
        assert len(records) == 3 and not caplog.text
        return
    assert len(records) == 2 and counts.scored == 2
    cut = keep if keep > 0 else size + keep
    assert counts.reasons == [f"{path}, line 3: cut off ({cut:,} bytes)"]
    assert "1 of 3 lines are left out: " in caplog.text and "line 3: cut off" in caplog.text


FLAWED = {
    "no JSON": b'{"question": "a", "tok\n',
    "no JSON, ": b'{"question": "\xff\xfe"}\n',
    "no object": b"[1]\n",
    "no tokens": json.dumps({name: WHOLE[name] for name in WHOLE if name != "tokens"}).encode() + b"\n",
    **{
        reason: json.dumps(WHOLE | change).encode() + b"\n"
        for reason, change in {
            "tokens that are no strings": {"tokens": ["one", 2, "three"]},
            "a text that is no string": {"text": ["one"]},
            "scores that are not lists by signal": {"scores": [1]},
            "selected that are not lists by signal": {"selected": {"entropy": 3}},
            "scores of entropy: not one for each of 3 tokens": {"scores": {"entropy": [1, 2]}},
            "scores of entropy that are no numbers": {"scores": {"entropy": [1, None, "x"]}},
            "weights: not one for each of 3 tokens": {"weights": [1]},
            "roles: not one for each of 3 tokens": {"roles": ["nothing"]},
            "positions selected by entropy that are none of the completion": {"selected": {"entropy": [0, 3]}},
            "positions selected by visual that are none of the completion": {"selected": {"visual": [-1]}},
        }.items()
    },
}


@pytest.mark.parametrize("reason", FLAWED)
def test_a_line_that_is_no_record_is_left_out_with_its_reason(tmp_path: Path, reason: str):
    path = write_records(tmp_path / "rollouts.jsonl", [WHOLE])
    path.write_bytes(path.read_bytes() + FLAWED[reason] + path.read_bytes())
    records, counts = read(path)
    assert len(records) == 2 and len(counts.reasons) == 1
    assert f"line 2: {reason.rstrip(', ')} (" in counts.reasons[0]


def test_completions_without_scores_are_counted(tmp_path: Path):
    path = write_records(tmp_path / "rollouts.jsonl", [UNSCORED, WHOLE, UNSCORED])
    records, counts = read(path)
    assert records == [WHOLE] and (counts.scored, counts.unscored, counts.reasons) == (1, 2, [])


def test_held_out_completions_are_read_where_training_scored_none(tmp_path: Path):
    rollouts = write_records(tmp_path / "rollouts.jsonl", [UNSCORED])
    with pytest.raises(MissingData, match="no scored tokens in rollouts.jsonl or attribution.jsonl"):
        source_of(tmp_path)
    attribution = write_records(tmp_path / "attribution.jsonl", [WHOLE])
    assert source_of(tmp_path) == attribution
    write_records(rollouts, [WHOLE])
    assert source_of(tmp_path) == rollouts and source_of(tmp_path, "attribution") == attribution


def test_what_is_no_source_is_refused(tmp_path: Path):
    with pytest.raises(MissingData, match="no such folder"):
        source_of(tmp_path / "absent")
    with pytest.raises(ConfigError, match="records=rollout: take rollouts or attribution"):
        source_of(tmp_path, "rollout")
