"""Results of evaluations in a table: by the place of the policy, or by a label, and what is not alike is said."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ktr.errors import InputError
from ktr.evaluation.reports.table_results import measured_of
from ktr.report import main
from ktr.tables.grids import results_grid, results_notes
from ktr.tables.runs import find_tables
from ktr.tables.values import read_table
from tests.evaluation_folder import item_line, write_evaluation
from tests.unit.tables.table_factory import write_table

ROWS = {"sft_16": [], "video_ktr_16": ["attribution=vet"]}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "main", dict.fromkeys(ROWS, (0.5, 0.6)), name="main", rows=ROWS)


def evaluated(folder: Path, num_right: int, model: str, benchmark: str = "mmvu", **changes) -> Path:
    lines = [item_line(n, "right" if n < num_right else "wrong") for n in range(10)]
    return write_evaluation(folder, lines, model, benchmark=benchmark, changes=changes)


def policy(table: Path, run: str) -> str:
    return str(table / run / "policy")


def grid_of(
    table: Path, results: list[Path], labels: Mapping[str, list[Path]]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    read = read_table(find_tables(table)[0], measured_of(table, results, labels))
    grid = results_grid(read)
    return {row[0]: dict(zip(grid.columns[1:], row[1:], strict=True)) for row in grid.rows}, results_notes(read)


def test_a_result_of_a_runs_policy_fills_its_row_and_a_labelled_one_a_published_row(table: Path, tmp_path: Path):
    evaluated(table / "sft_16-s0" / "mmvu", 3, policy(table, "sft_16-s0"))  # inside of a run, and beside it
    evaluated(table / "evaluations" / "a", 5, policy(table, "video_ktr_16-s0"))
    evaluated(table / "evaluations" / "b", 7, policy(table, "video_ktr_16-s1"))
    gpt = evaluated(tmp_path / "gpt", 9, "gpt-4o", "videomme")
    more = evaluated(tmp_path / "more", 8, "gpt-4o", "tempcompass")
    rows, _ = grid_of(table, [], {"gpt_4o": [gpt, more]})
    assert rows["sft_16"]["MMVU"] == "30.0" and rows["video_ktr_16"]["MMVU"] == "60.0 ± 127.1"
    assert (
        rows["GPT-4o"]["VideoMME"] == "90.0"
        and rows["GPT-4o"]["TempCompass"] == "80.0"
        and rows["GPT-4o"]["7B, paper: VideoMME"] == "71.9"
    )
    assert rows["GPT-4o"]["MMVU"] == "—" and rows["video_ktr_16"]["n"] == "10 / 600"


def test_results_elsewhere_are_named_and_those_of_no_row_are_told(table: Path, tmp_path: Path):
    evaluated(tmp_path / "away" / "a", 5, policy(table, "sft_16-s0"))
    other = evaluated(tmp_path / "away" / "b", 5, "/models/other")
    rows, notes = grid_of(table, [tmp_path / "away"], {})
    assert rows["sft_16"]["MMVU"] == "50.0" and f"Results of no row: {other}." in notes
    assert "MMVU" not in grid_of(table, [], {})[0]["sft_16"]


def test_results_that_were_asked_otherwise_are_told_together(table: Path):
    evaluated(table / "e" / "a", 5, policy(table, "sft_16-s0"))
    for name, benchmark in (("b", "mmvu"), ("c", "shapes")):
        evaluated(table / "e" / name, 5, policy(table, "video_ktr_16-s0"), benchmark, rule="lenient")
    _, notes = grid_of(table, [], {})
    assert notes[0] == ('mmvu of video_ktr_16-s0: asked otherwise than of sft_16-s0: rule: "strict" and "lenient".')


def test_two_results_for_one_cell_and_a_label_of_no_row_are_refused(table: Path):
    for name in "ab":
        evaluated(table / "e" / name, 5, policy(table, "sft_16-s0"))
    with pytest.raises(InputError, match="are both of mmvu_mc; name the folders"):
        measured_of(table, [], {})
    with pytest.raises(InputError, match="--label gpt-4o: there is no such row; name one of gpt_4o"):
        measured_of(table, [], {"gpt-4o": [table]})


def test_the_command_takes_results_and_labels(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    evaluated(tmp_path / "a", 5, policy(table, "sft_16-s0"))
    gpt = evaluated(tmp_path / "gpt", 9, "gpt-4o")
    assert main(["tables", str(table), "--results", str(tmp_path / "a"), "--label", f"gpt_4o={gpt}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(table / "table.md")
    text = (table / "table.md").read_text()
    assert "| GPT-4o | — | 10 |" in text and "| 90.0 |" in text and "asked otherwise than of sft_16-s0" in text
    assert "gpt_4o,benchmark/mmvu_mc,1,10,90.0" in (table / "table.csv").read_text()
