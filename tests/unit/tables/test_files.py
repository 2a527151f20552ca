"""What is written: Markdown, CSV, LaTeX and figures that say the same, and the command that writes them."""

import csv
import subprocess
import sys
from itertools import pairwise

import pytest

from ktr.analysis import figure_style
from ktr.report import main
from ktr.tables.files import report_tables
from ktr.tables.latex import escape
from ktr.tables.runs import find_tables
from ktr.tables.values import read_table

from .table_factory import results_of, write_run, write_table

ACCURACIES = {"grpo": (0.50, 0.60, 0.70), "vet": (0.52, 0.61, 0.73)}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setitem(figure_style.STYLE, "savefig.dpi", 20)


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_of_a_table_stand_in_its_folder_table_md_last(tmp_path):
    _, written = report_tables(write_table(tmp_path, ACCURACIES))
    names = ["figures/results.png", "figures/curves.png", "table.csv", "rows.csv", "cost.csv", "table.tex", "table.md"]
    assert [str(path.relative_to(tmp_path)) for path in written] == names
    assert all(path.stat().st_size for path in written)


def test_a_csv_reads_back_as_the_same_numbers(tmp_path):
    report_tables(write_table(tmp_path, ACCURACIES))
    rows = read_csv(tmp_path / "rows.csv")
    greedy = {
        (line["row"], int(line["seed"])): float(line["accuracy"]) for line in rows if line["metric"] == "after/greedy"
    }
    assert greedy == {(row, seed): value for row, values in ACCURACIES.items() for seed, value in enumerate(values)}
    table = read_table(find_tables(tmp_path)[0])
    cell = next(row for row in table.rows if row.name == "vet").cells["after/greedy"]
    lines = {(line["row"], line["metric"]): line for line in read_csv(tmp_path / "table.csv")}
    line = lines["vet", "after/greedy"]
    assert cell.mean is not None and cell.mean.half_width is not None and cell.difference is not None
    assert float(line["mean"]) == 100 * cell.mean.mean and float(line["half_width"]) == 100 * cell.mean.half_width
    assert float(line["difference"]) == 100 * cell.difference.mean and line["difference_seeds"] == "3"
    assert lines["grpo", "after/greedy"]["difference"] == ""
    assert lines["vet", "published/average"]["mean"] == "53.4"
    cost = {line["row"]: line for line in read_csv(tmp_path / "cost.csv")}
    assert float(cost["vet"]["relative"]) == 1.0 and cost["vet"]["updates"] == "30"


def test_results_do_not_depend_on_time_nor_on_the_order_of_folders(tmp_path):
    report_tables(write_table(tmp_path / "a", ACCURACIES, seconds=1.0))
    report_tables(write_table(tmp_path / "b", dict(reversed(ACCURACIES.items())), seconds=7.0))
    assert results_of(tmp_path / "a") == results_of(tmp_path / "b")
    assert (tmp_path / "a" / "table.md").read_text() != (tmp_path / "b" / "table.md").read_text()
    for name in ("table.csv", "rows.csv", "table.tex"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_table_md_warns_above_the_table_and_names_commit_and_command_of_each_row(tmp_path):
    write_table(tmp_path, {"grpo": (0.5,)})
    write_table(tmp_path, {"vet": (0.6,)}, changes={"trainer.max_steps": 7})
    report_tables(tmp_path)
    text = (tmp_path / "table.md").read_text()
    places = ("not comparable: trainer.max_steps is 30 in grpo and 7 in vet", "| row |", "## How each", "## Cost")
    assert all(text.index(first) < text.index(second) for first, second in pairwise(places))
    assert "| vet | 0 | c0ffee1 | `python -m ktr.train +experiment=table/signals table.row=vet seed=0` |" in text


def test_latex_is_escaped_and_has_as_many_cells_as_columns(tmp_path):
    rows = {"video_ktr_16": ["attribution=vet"], "sft_16": []}
    report_tables(write_table(tmp_path, dict.fromkeys(rows, (0.5,)), name="frames", rows=rows))
    text = (tmp_path / "table.tex").read_text()
    assert "video\\_ktr\\_16 &" in text and "video_ktr" not in text and "\\toprule" in text
    columns = text.partition("\\begin{tabular}{")[2].partition("}")[0]
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0].splitlines()
    assert [line.count(" & ") + 1 for line in body] == [len(columns)] * 2
    assert escape("50 % of #1 & {a}^b ± ~") == r"50 \% of \#1 \& \{a\}\textasciicircum{}b $\pm$ \textasciitilde{}"


@pytest.mark.parametrize(
    ("name", "rows", "has_lines"),
    [
        ("ratio", ("grpo", "0.1", "0.2", "0.3"), True),
        ("frames", ("grpo_16", "grpo_32", "video_ktr_16", "video_ktr_64"), True),
        ("distance", ("grpo", "l1", "l2", "kl"), False),
    ],
)
def test_rows_that_are_numbers_are_drawn_as_lines_too(tmp_path, name, rows, has_lines):
    overrides = {row: [f"attribution={row}"] for row in rows}
    _, written = report_tables(write_table(tmp_path, dict.fromkeys(rows, (0.5, 0.6)), name=name, rows=overrides))
    assert (tmp_path / "figures" / "lines.png" in written) == has_lines


def test_a_table_that_is_not_finished_is_no_failure_and_says_so(tmp_path, capsys):
    write_run(tmp_path, "grpo", finished=False)
    assert main(["tables", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "Not finished at seed 0: grpo" in out and "— (0 of 1 seeds)" in out
    assert out.splitlines()[-1] == str(tmp_path / "table.md")


def test_several_tables_are_written_beside_their_runs(tmp_path):
    write_table(tmp_path / "x", {"grpo": (0.5,)})
    write_table(tmp_path / "y", {"grpo": (0.5,)}, name="rl_methods")
    text, written = report_tables(tmp_path)
    pages = [path for path in written if path.name == "table.md"]
    assert pages == [tmp_path / "y" / "table.md", tmp_path / "x" / "table.md"] and text.count("A table\n") == 2


def test_a_table_is_reported_without_loading_torch(tmp_path):
    write_table(tmp_path, {"grpo": (0.5,)})
    program = "import sys; from ktr.report import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "tables", str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
