"""Quality of a ranking against its definitions, and the table of it from records."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from ktr.analysis.specificity import labelled_tokens, ranking, specificity, write_specificity
from ktr.analysis.statistics import auroc
from ktr.attribution.signals import Distance, Shift
from ktr.attribution.views import Granularity, Masking, Order
from ktr.config.composing import compose
from ktr.errors import MissingData
from ktr.record.token_records import append_records

ROLES = ("appearance", "order_motion", "decision", "derived", "nothing")


def test_a_ranking_with_whole_weights_is_that_of_tokens_repeated_so_often():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3  # many ties
    question, weights = np.repeat(np.arange(8), 5), rng.integers(0, 4, (3, 8)).astype(float)
    aurocs, precisions = ranking(scores, positive, question, weights)
    for row in range(3):
        times = weights[row][question].astype(int)
        repeated, of_positives = np.repeat(scores, times), np.repeat(positive, times)
        assert aurocs[row] == pytest.approx(auroc(repeated, of_positives))
        steps = [repeated >= threshold for threshold in sorted(set(repeated), reverse=True)]
        recall = [0.0, *(of_positives[chosen].sum() / of_positives.sum() for chosen in steps)]
        precision = [of_positives[chosen].mean() for chosen in steps]
        assert precisions[row] == pytest.approx(np.dot(np.diff(recall), precision))


def test_a_draw_without_one_of_the_classes_has_no_value():
    found = ranking(np.array([1.0, 0.0]), np.array([True, False]), np.array([0, 1]), np.array([[1.0, 0.0]]))
    assert np.isnan(found).all()


def records(num_questions: int = 12) -> list[dict]:
    rng = np.random.default_rng(1)
    made = []
    for question in range(num_questions):
        roles = list(rng.permutation(ROLES * 4))
        scores = {
            "visual": [float(role in ROLES[:2]) for role in roles],
            "visual_noise": rng.random(20).tolist(),
            "mine": [-float(role == "order_motion") for role in roles],
        }
        chosen = {name: np.argsort(np.negative(values))[:8].tolist() for name, values in scores.items()}
        made.append({"question": str(question), "tokens": roles, "roles": roles, "scores": scores, "selected": chosen})
    return made


def test_each_signal_is_held_to_each_target(tmp_path: Path):
    found = specificity(labelled_tokens(records(), tmp_path))["signals"]
    assert found["visual"]["auroc"]["seen"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["visual"]["selected"]["order_motion"]["value"] == 1.0
    assert found["mine"]["auroc"]["in order"]["value"] == 0.0
    noise = found["visual_noise"]["auroc"]["seen"]
    assert noise["low"] < 0.5 < noise["high"] and noise["difference"]["high"] < 0


def test_the_files_of_a_run_are_written_and_a_run_without_roles_says_what_to_do(tmp_path: Path):
    append_records(tmp_path / "attribution.jsonl", records())
    text, path = write_specificity(tmp_path)
    assert path.read_text() == text and "| visual_noise |" in text
    assert {file.suffix for file in tmp_path.glob("specificity.*")} == {".md", ".json", ".png"}
    append_records(tmp_path / "other.jsonl", [])
    with pytest.raises(MissingData, match="attribution=every_option"):
        write_specificity(tmp_path / "elsewhere")


def test_every_option_of_the_signals_has_its_row():
    signals = compose("attribute", ["attribution=every_option", "output=null"]).attribution.signals
    for kind, options in {
        "visual": {"masking": Masking, "distance": Distance, "shift": Shift},
        "temporal": {"granularity": Granularity, "order": Order, "distance": Distance, "shift": Shift},
    }.items():
        rows = [signal for name, signal in signals.items() if name.partition("_")[0] == kind]
        for option, choices in options.items():
            default = get_args(choices)[0]
            assert {row.get(option, default) for row in rows} == set(get_args(choices))
        assert all(len(row) <= 2 for row in rows)  # the class, and the one option that it changes
