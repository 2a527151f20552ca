"""Values of a table: means, intervals and paired differences from the runs' summaries, whatever order they come in."""

import json
import random

import pytest

from ktr.analysis.statistics import mean_interval, paired_difference
from ktr.tables.files import report_tables
from ktr.tables.grids import number, percent, results_grid
from ktr.tables.markdown import command, grid_markdown
from ktr.tables.runs import find_tables
from ktr.tables.values import read_table

from .table_factory import ROWS, write_run, write_table

ACCURACIES = {"grpo": (0.50, 0.60, 0.70), "vet": (0.52, 0.61, 0.73)}


def table_of(folder):
    (source,) = find_tables(folder)
    return read_table(source)


def row_of(table, name):
    return next(row for row in table.rows if row.name == name)


def test_a_row_has_the_mean_of_its_seeds_and_its_paired_difference(tmp_path):
    table = table_of(write_table(tmp_path, ACCURACIES))
    cell = row_of(table, "vet").cells["after/greedy"]
    assert cell.mean == mean_interval(ACCURACIES["vet"])
    assert cell.difference == paired_difference(*(dict(enumerate(ACCURACIES[row])) for row in ("vet", "grpo")))
    assert row_of(table, "grpo").cells["after/greedy"].difference is None
    assert row_of(table, "grpo").cells["before/sampled"].mean == mean_interval([0.25] * 3)


def test_identical_rows_differ_by_exactly_nothing(tmp_path):
    table = table_of(write_table(tmp_path, {"grpo": ACCURACIES["grpo"], "vet": ACCURACIES["grpo"]}))
    difference = row_of(table, "vet").cells["after/sampled"].difference
    assert (difference.mean, difference.half_width) == (0.0, 0.0)
    assert percent(difference, sign=True) == "+0.0 ± 0.0"


def test_numbers_are_printed_as_published_tables_print_them(tmp_path):
    assert percent(mean_interval([0.9266])) == "92.7"
    assert percent(mean_interval([-0.0123]), sign=True) == "\N{MINUS SIGN}1.2"
    assert number(mean_interval([-0.04]), 1, sign=True) == "+0.0"
    assert percent(None) == "—"


def test_the_order_in_which_runs_were_written_does_not_matter(tmp_path):
    runs = [(row, seed) for row in ACCURACIES for seed in range(3)]
    texts = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        for row, seed in random.Random(attempt).sample(runs, len(runs)):
            write_run(folder, row, seed, ACCURACIES[row][seed])
        texts.append(report_tables(folder)[0])
    assert texts[0] == texts[1] == texts[2]


def test_rows_stand_in_the_order_of_the_table_beside_their_published_numbers(tmp_path):
    rows = {"vet": ["attribution=vet"], "new": ["attribution=new"], "grpo": ["attribution=none"]}
    table = table_of(write_table(tmp_path, dict.fromkeys(("grpo", "new", "vet"), (0.5,)), rows=rows))
    grid = results_grid(table)
    average = grid.columns.index("7B, paper: average")
    assert [(row[0], row[average]) for row in grid.rows] == [("vet", "53.4"), ("new", "—"), ("grpo", "51.1")]


def test_seeds_that_are_missing_are_named_and_no_row_is_dropped(tmp_path):
    rows = {**ROWS, "e": ["attribution=e"]}
    write_table(tmp_path, {"grpo": (0.5, 0.6, 0.7), "vet": (0.6,)}, rows=rows)
    write_run(tmp_path, "vet", 2, rows=rows, finished=False)
    table = table_of(tmp_path)
    assert table.unfinished == [
        "Not finished at seed 0: e.",
        "Not finished at seed 1: vet, e.",
        "Not finished at seed 2: vet, e.",
    ]
    assert [row[1:4] for row in results_grid(table).rows] == [
        ["3", "600", "60.0 ± 24.8"],
        ["1 of 3", "600", "60.0"],
        ["0 of 3", "—", "— (0 of 3 seeds)"],
    ]


def test_rows_of_other_seeds_are_compared_over_the_seeds_in_common_and_it_is_said(tmp_path):
    write_table(tmp_path, {"grpo": (0.5, 0.6, 0.7), "vet": (0.6, 0.8)})
    table = table_of(tmp_path)
    assert row_of(table, "vet").cells["after/greedy"].difference.n == 2
    assert any("vet and grpo have different seeds" in note and "seeds 0, 1 alone" in note for note in table.notes)


def test_benchmarks_stand_among_the_results_and_partial_credit_counts(tmp_path):
    write_table(tmp_path, {"grpo": (0.5,), "vet": (0.6,)})
    path = tmp_path / "vet-s0" / "summary.json"
    summary = json.loads(path.read_text()) | {"benchmarks": {"mmvu_mc": {"accuracy": 0.655, "n": 625}}}
    path.write_text(json.dumps(summary))
    grid = results_grid(table_of(tmp_path))
    at = grid.columns.index("MMVU")
    assert [row[at] for row in grid.rows] == ["—", "65.5"] and grid.rows[1][2] == "600 / 625"


def test_the_main_table_shows_the_papers_other_models_too(tmp_path):
    rows = {"sft_16": [], "video_ktr_16": ["attribution=vet"]}
    table = table_of(write_table(tmp_path, {"sft_16": (0.5,), "video_ktr_16": (0.6,)}, name="main", rows=rows))
    shown = {row[0]: row for row in results_grid(table).rows}
    assert "GPT-4o" in shown and "Video-KTR (7B, 64 frames)" in shown and "video_ktr_16" in shown
    assert table.unfinished == []
    signals = table_of(write_table(tmp_path / "other", {"grpo": (0.5,)}))
    assert [row.name for row in signals.rows] == ["grpo", "vet"]


def test_the_command_of_a_row_repeats_it_wherever_it_was_written():
    record = {
        "argv": ["/x/ktr/train.py", "+experiment=[paper,table/signals]", "table.row=e", "paths.runs=/x", "seed=1"]
    }
    assert command(record) == "python -m ktr.train '+experiment=[paper,table/signals]' table.row=e seed=1"


def test_markdown_keeps_a_bar_within_its_cell(tmp_path):
    grid = results_grid(table_of(write_table(tmp_path, {"grpo": (0.5,), "vet": (0.6,)})))
    grid.rows[0][0] = "a|b"
    lines = grid_markdown(grid).splitlines()
    assert lines[2].startswith("| a\\|b | 1 |") and lines[1].startswith("| --- | ---: |")


@pytest.mark.parametrize("way", ["greedy", "sampled"])
def test_no_line_of_the_console_is_longer_than_100_columns(tmp_path, way):
    rows = {"sft_16": [], "video_ktr_16": ["attribution=vet"]}
    write_table(tmp_path, dict.fromkeys(rows, (0.5, 0.6, 0.7)), name="main", rows=rows)
    text, _ = report_tables(tmp_path)
    assert max(map(len, text.splitlines())) <= 100 and f"{way}" in text
