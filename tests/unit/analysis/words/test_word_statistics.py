"""Shares, overlaps and their intervals, counted by hand or by the slow way."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from ktr.analysis.words.bootstrap import bootstrap, ratios
from ktr.analysis.words.token_table import TokenTableBuilder
from ktr.analysis.words.word_statistics import word_statistics

from .conftest import ByLetters, make_record


def table(*records: dict):
    builder = TokenTableBuilder(ByLetters())
    for record in records:
        builder.add(record)
    return builder.table()


RECORDS = (
    make_record("a", "one is two . </think>", (0, 3), (0, 1)),
    make_record("a", "so is two .", (0,), (0,)),
    make_record("b", "red red 12 one", (0, 1), (2,), problem_type="numerical"),
    make_record("c", "it is red .", (), (), problem_type="numerical"),
)


def values(entries: dict) -> dict:
    return {name: entry["value"] for name, entry in entries.items()}


def test_parts_of_speech_are_shares_of_all_tokens_that_a_signal_selects():
    found = word_statistics(table(*RECORDS))["parts_of_speech"]
    assert values(found["entropy"]) == {"NOUN": 0.4, "VERB": 0.4, "NUM": 0, "PUNCT": 0.2, "MARKUP": 0}
    assert values(found["visual"]) == {"NOUN": 0.5, "VERB": 0.25, "NUM": 0.25, "PUNCT": 0, "MARKUP": 0}
    assert sum(entry["count"] for entry in found["all"].values()) == 17
    for entries in found.values():
        assert sum(values(entries).values()) == pytest.approx(1, abs=1e-5)


def test_overlaps_count_each_token_once():
    overlap = word_statistics(table(*RECORDS))["overlap"]
    counts = {tuple(entry["signals"]): entry["count"] for entry in overlap["sets"]}
    assert counts == {(): 10, ("entropy",): 3, ("entropy", "visual"): 2, ("visual",): 2}
    assert overlap["jaccard"]["entropy_visual"]["value"] == pytest.approx(2 / 7, abs=1e-6)


def test_the_rank_correlation_is_spearmans_over_tokens_that_both_scored():
    rng = np.random.default_rng(0)
    records = [
        make_record(
            str(at // 2), "a b c d e f", scores={"v": rng.random(6).round(1).tolist(), "t": rng.random(6).tolist()}
        )
        for at in range(8)
    ]
    del records[3]["scores"]["t"]  # an image has no temporal score
    both = [record["scores"] for record in records if "t" in record["scores"]]
    expected = spearmanr(np.concatenate([s["v"] for s in both]), np.concatenate([s["t"] for s in both])).statistic
    found = word_statistics(table(*records))["overlap"]["rank_correlation"]
    assert found["t_v"]["value"] == pytest.approx(expected, abs=2e-6) and found["t_v"]["count"] == 42
    assert set(found) == {"t_v"}  # signals that select here, but score nothing, have no ranks


def test_positions_are_shares_of_the_tokens_at_a_place():
    position = word_statistics(table(*RECORDS))["position"]
    assert values(position["absolute"]["updated"]) == {"0": 0.75, "1": 0.5, "2": 0.25, "3": 0.25, "4": 0}
    assert values(position["relative"]["entropy"])["0–10 %"] == 0.75
    assert position["relative"]["entropy"]["10–20 %"] == {"value": None, "low": None, "high": None, "count": 0}
    long = make_record("a", " ".join("x" * 333), tuple(range(40)))
    assert list(word_statistics(table(long))["position"]["absolute"]["entropy"])[:2] == ["0–49", "50–99"]


def test_problem_types_of_one_question_have_no_interval():
    rates = word_statistics(table(*RECORDS))["problem_type"]["entropy"]
    assert rates["free-form"] == {"value": pytest.approx(3 / 9, abs=1e-6), "low": None, "high": None, "count": 9}
    assert rates["numerical"]["value"] == 0.25 and rates["numerical"]["low"] == 0 and rates["numerical"]["high"] == 0.5


def test_words_are_sorted_by_how_much_more_than_chance_they_are_selected():
    words = word_statistics(table(*RECORDS))["words"]["entropy"]
    assert words[0] == {"word": "red", "tokens": 3, "selected": 2, "excess": pytest.approx(2 - 3 * 4 / 13, abs=1e-3)}
    assert sum(word["excess"] for word in words) == pytest.approx(0, abs=1e-2)
    assert {word["word"] for word in words} == {"one", "is", "two", "so", "red", "12", "it"}


def test_a_word_of_several_tokens_is_not_selected_more_for_having_them():
    record = make_record("a", "tri angle re d") | {"tokens": ["tri", "angle", " re", "d"], "text": "triangle red"}
    record |= {"scores": {}, "selected": {"visual": [1]}}
    words = {word["word"]: word for word in word_statistics(table(record))["words"]["visual"]}
    assert words["triangle"] == {"word": "triangle", "tokens": 2, "selected": 1, "excess": 0.5}
    assert words["red"] == {"word": "red", "tokens": 2, "selected": 0, "excess": -0.5}


def test_roles_are_counted_where_they_are_known():
    known = make_record("a", "red so .", (0,), (), roles=["appearance", "decision", "nothing"])
    roles = word_statistics(table(known, *RECORDS))["roles"]
    assert values(roles["entropy"]) == {"appearance": 1, "decision": 0, "nothing": 0}
    assert roles["all"]["nothing"]["count"] == 1
    assert word_statistics(table(*RECORDS))["roles"] == {}


def test_without_weights_what_is_selected_is_updated():
    record = make_record("a", "one two", (0,))
    del record["weights"]
    assert table(record).updated_T.tolist() == [True, False]


def test_signals_keep_their_order_whichever_is_met_first():
    first = make_record("a", "one two", scores={}, selected={"own": [0], "temporal": [1]})
    found = table(first, RECORDS[0])
    assert found.signals == ("entropy", "visual", "temporal", "own")
    assert found.selects("temporal").tolist() == [False, True, *[False] * 5]
    assert found.selects("entropy").tolist() == [False, False, True, False, False, True, False]


def test_statistics_are_the_same_each_time_and_plain_json():
    rng = np.random.default_rng(0)
    many = [
        make_record(str(at), "one is so red", tuple(np.flatnonzero(rng.random(4) < 0.5).tolist())) for at in range(40)
    ]
    first, second, other = (json.dumps(word_statistics(table(*many), seed), allow_nan=False) for seed in (3, 3, 4))
    assert first == second != other


def test_completions_of_one_question_do_not_narrow_an_interval():
    rng = np.random.default_rng(0)
    hits_Q1 = rng.integers(0, 10, (30, 1))
    once = ratios(hits_Q1, np.full((30, 1), 10))
    many = ratios(50 * hits_Q1, np.full((30, 1), 500))
    assert np.allclose([once.low_K, once.high_K], [many.low_K, many.high_K])
    width = once.high_K - once.low_K
    normal = 2 * 1.96 * (hits_Q1 / 10).std() / np.sqrt(30)
    assert width == pytest.approx(normal, rel=0.15)


def test_a_bootstrap_in_blocks_is_the_one_at_once(monkeypatch: pytest.MonkeyPatch):
    sums_QC = np.random.default_rng(0).random((7, 2))

    def ratio(sums_BC: np.ndarray) -> np.ndarray:
        return sums_BC[:, :1] / sums_BC[:, 1:]

    whole = bootstrap(ratio, sums_QC, seed=1, draws=100)
    monkeypatch.setattr("ktr.analysis.words.bootstrap.MAX_WEIGHTS", 7 * 16)
    blocks = bootstrap(ratio, sums_QC, seed=1, draws=100)
    assert np.array_equal(whole.low_K, blocks.low_K) and np.array_equal(whole.high_K, blocks.high_K)
    assert whole.low_K < whole.value_K < whole.high_K


def test_what_cannot_be_known_is_nan():
    alone = ratios(np.array([[1, 0]]), np.array([[2, 0]]))
    assert alone.value_K[0] == 0.5 and np.isnan([alone.low_K[0], alone.high_K[0], *alone.value_K[1:]]).all()
