"""What a study predicts of rows is compared with how fast they learned."""

import json
import math
from pathlib import Path

import pytest

from ktr.errors import MissingData
from ktr.study.predicted import main, outcomes, rank_correlation
from tests.unit.tables.table_factory import write_run

OPTIMIZER = {"_target_": "ktr.training.optim.AdamWCosine", "betas": [0.9, 0.99]}
ROWS = {row: [f"attribution={row}"] for row in ("grpo", "vet", "vet_random", "e", "v")}
# signal, noise, lost of each rule, over those of the whole; 32 groups make noise as large as signal
MEASURED = {
    "all": (1.0, 1.0, 0.0), "visual+entropy+temporal": (1.0, 0.5, 0.0), "random": (0.5, 0.5, 0.25),
    "entropy": (0.4, 0.9, 0.6), "visual": (0.9, 0.1, 0.1),
}  # fmt: skip


def write_study(folder: Path, known: bool = True) -> Path:
    """A study's file; where its whole gradient is not told from zero, shares of it are null."""
    rules = {
        name: {"signal": {"value": s}, "noise": {"value": n}, "lost": {"value": lost}, "groups": {"value": 32.0}}
        for name, (s, n, lost) in MEASURED.items()
    }
    for rule in rules.values() if not known else ():
        rule |= {share: {"value": None} for share in ("signal", "lost", "groups")}
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps({"rules": {"gradient": {}, "adamw": {"all of them": rules}}}))
    return folder


def write_table(folder: Path, accuracies: dict[str, float], **changes: object) -> Path:
    given = {"data.questions_per_step": 16, "optimizer": OPTIMIZER, **changes}
    for row, accuracy in accuracies.items():
        for seed in (0, 1):
            rewards = [accuracy + 0.001 * seed] * 30
            write_run(folder, row, seed, name="controls", rows=ROWS, rewards=rewards, changes=given)
    return folder


LEARNED = {"v": 0.8, "vet": 0.7, "grpo": 0.6, "vet_random": 0.5, "e": 0.4}


def test_a_prediction_is_the_signal_over_the_root_mean_square_length(tmp_path: Path):
    study, table = write_study(tmp_path / "study"), write_table(tmp_path / "table", LEARNED)
    rows = {outcome.row: outcome for outcome in outcomes(study, table)}
    assert list(rows) == ["v", "vet", "grpo", "vet_random", "e"]
    assert rows["grpo"].predicted == 1 and rows["vet"].predicted == pytest.approx(math.sqrt(3 / 2))
    assert rows["vet_random"].predicted == pytest.approx(0.5 * math.sqrt(3 / (0.25 + 1)))
    assert rows["vet"].mean.mean == pytest.approx(70.05)


def test_a_rule_that_takes_no_token_makes_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MEASURED, "entropy", (0.0, 0.0, 1.0))
    study, table = write_study(tmp_path / "study"), write_table(tmp_path / "table", LEARNED)
    assert {outcome.row: outcome.predicted for outcome in outcomes(study, table)}["e"] == 0


def test_updates_of_matched_length_go_by_the_mean_that_adamw_holds(tmp_path: Path):
    matched = {"optimizer": OPTIMIZER | {"_target_": "ktr.training.matched_updates.MatchedAdamWCosine"}}
    study, table = write_study(tmp_path / "study"), write_table(tmp_path / "table", LEARNED, **matched)
    rows = {outcome.row: outcome.predicted for outcome in outcomes(study, table)}
    assert rows["vet"] == pytest.approx(math.sqrt((1 + 2 / 19) / (1 + 1 / 19)))


def test_the_rank_correlation_is_that_of_the_orders(tmp_path: Path):
    study = write_study(tmp_path / "study")
    same = rank_correlation(outcomes(study, write_table(tmp_path / "same", LEARNED)))
    reversed_order = dict(zip(LEARNED, reversed(LEARNED.values()), strict=True))
    other = rank_correlation(outcomes(study, write_table(tmp_path / "other", reversed_order)))
    assert (same.value, other.value) == (pytest.approx(1), pytest.approx(-1))
    swapped = LEARNED | {"v": 0.7, "vet": 0.8}
    near = rank_correlation(outcomes(study, write_table(tmp_path / "near", swapped)))
    assert near.value == pytest.approx(0.9) and near.low < 0.9 <= near.high <= 1 + 1e-9


def test_it_is_written_beside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study, table = write_study(tmp_path / "study"), write_table(tmp_path / "table", LEARNED)
    assert main([str(study), str(table)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(table / "predicted.md")
    text = (table / "predicted.md").read_text()
    assert "| vet_random | random | 0.77 | 4 | 50.0 ± 0.6 | 4 | 2 |" in text and "1.00 [1.00, 1.00]" in text
    assert (table / "figures" / "predicted.png").stat().st_size > 1000


def test_what_cannot_be_predicted_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study, table = write_study(tmp_path / "study"), write_table(tmp_path / "table", {"grpo": 0.5, "e": 0.4})
    assert main([str(tmp_path), str(table)]) == 2 and "no study.json" in capsys.readouterr().err
    assert main([str(study), str(table)]) == 2
    assert "2 finished rows with a rule" in capsys.readouterr().err
    unknown = write_study(tmp_path / "unknown", known=False)
    with pytest.raises(MissingData, match="cannot tell the whole gradient from zero"):
        outcomes(unknown, write_table(tmp_path / "all", LEARNED))
