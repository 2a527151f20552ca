"""compare.html of several runs, and report.html while a run goes on."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from ktr.analysis.compare import comparison_rows, write_comparison
from ktr.analysis.gradient_table import runs_by_row, write_gradient_table
from ktr.analysis.panel_figures import draw_section
from ktr.analysis.run_folder import RunFolder
from ktr.errors import MissingData
from ktr.record.json_file import write_object
from ktr.record.metrics_csv import MetricsCSV
from ktr.training.live_report import LiveReport

RUNNING = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), LightningModule()
SIGNALS = ("entropy", "visual", "temporal")


def with_gradients(run_dir: Path, name: str) -> Path:
    """A copy of a run with measured gradients, by another name."""
    copy = run_dir.with_name(name)
    shutil.copytree(run_dir, copy)
    logger = MetricsCSV(copy)
    for step in (4, 14, 24):
        logger.log_metrics({"grad/norm/all": 1.0, "grad/norm/selected": 0.9, "grad/norm/role/<b>": 0.1}, step)
    return copy


def test_several_runs_are_one_page_of_their_own(make_run: Any, tmp_path: Path):
    run_dir = make_run(SIGNALS, truth=True)
    page = write_comparison([run_dir, with_gradients(run_dir, "<b>bold")], tmp_path / "compare.html").read_text()
    assert "80.0 % (70.0 to 90.0)" in page and "Gradients" in page and "Rewards" in page
    assert "http" not in page and "<b>bold" not in page and page.count("data:image/png") == page.count("<img")


def test_completions_are_not_read_where_none_is_shown(make_run: Any, tmp_path: Path):
    run_dir = with_gradients(make_run(SIGNALS), "measured")
    (run_dir / "rollouts.jsonl").write_text("of a long run these are gigabytes\n")
    write_comparison([run_dir, run_dir], tmp_path / "compare.html")
    write_gradient_table(run_dir.parent)
    with pytest.raises(MissingData, match=r"rollouts\.jsonl, line 1"):
        _ = RunFolder.read(run_dir).rollouts


def test_runs_of_one_name_are_called_by_their_paths(make_run: Any, tmp_path: Path):
    first, second = (tmp_path / table / "vet-s0" for table in "ab")
    shutil.copytree(run_dir := make_run(()), first)
    shutil.copytree(run_dir, second)
    page = write_comparison([first, second], tmp_path / "compare.html").read_text()
    assert f"<th>{first}</th><th>{second}</th>" in page


def test_rows_are_those_that_a_run_has(make_run: Any):
    plain = RunFolder.read(make_run(()))
    measured = RunFolder.read(with_gradients(plain.path, "measured"))
    rows = dict(comparison_rows([plain, measured]))
    assert rows["grad/norm/selected, mean (published 4.5)"] == ["", "0.900"]
    assert "visual AUROC" not in rows and rows["updates"] == ["unfinished"] * 2
    rate = {"tokens_per_second": 1234.5}
    fast = [replace(plain, summary=rate), replace(plain, summary=rate, record={"ranks": 8})]
    assert dict(comparison_rows(fast))["tokens/s"] == ["1,234", "1,234 on rank 0 of 8"]


def test_one_run_is_no_comparison_and_a_folder_without_one_is_named(make_run: Any, tmp_path: Path):
    run_dir = make_run(())
    with pytest.raises(MissingData, match="two run folders"):
        write_comparison([run_dir], tmp_path / "compare.html")
    with pytest.raises(MissingData, match="nowhere"):
        write_comparison([run_dir, tmp_path / "nowhere"], tmp_path / "compare.html")


def test_a_section_without_data_is_left_out(make_run: Any):
    run = RunFolder.read(make_run(()))
    assert draw_section([run], "Gradients") is None and draw_section([run], "Rewards") is not None


def test_the_report_is_written_again_while_its_share_of_the_time_lasts(make_run: Any, monkeypatch: pytest.MonkeyPatch):
    run_dir, seconds, written = make_run(SIGNALS), [0.0], []

    def write(folder: Path) -> None:
        written.append(seconds[0])
        seconds[0] += 2.0

    monkeypatch.setattr("ktr.training.live_report.perf_counter", lambda: seconds[0])
    monkeypatch.setattr("ktr.training.live_report.write_report", write)
    callback = LiveReport(run_dir, share=0.01, first_after=60.0)
    callback.on_train_start(*RUNNING)
    for _ in range(2000):
        seconds[0] += 1.0
        callback.on_train_batch_start(*RUNNING, None, 0)
    assert written[0] == 60.0 and len(written) == 10
    assert 2.0 * len(written) <= 0.01 * seconds[0] + 2.0


def test_a_run_that_goes_on_has_a_report(make_run: Any):
    run_dir = make_run(SIGNALS)
    (run_dir / "summary.json").unlink()
    callback = LiveReport(run_dir, share=1.0, first_after=0.0)
    callback.on_train_batch_start(*RUNNING, None, 0)
    assert "Training" in (run_dir / "report.html").read_text()


def test_gradients_are_tabled_by_row_over_seeds_beside_the_published(make_run: Any, tmp_path: Path):
    folder = tmp_path / "table"
    for seed, norm in enumerate((0.8, 1.0)):
        run = make_run(SIGNALS)
        MetricsCSV(run).log_metrics({"grad/norm/all": 1.0, "grad/norm/selected": norm, "loss/variance": 0.5}, 4)
        write_object(run / "summary.json", {"algorithm": "some", "attribution": {"name": "vet"}, "seed": seed})
        shutil.move(run, folder / f"run-{seed}")
    text, path = write_gradient_table(folder)
    assert (
        "| norm, selected | 4.5 | 0.900 ± 1.271 |" in text and "| loss variance, tokens with a weight | 0.444 |" in text
    )
    assert path.read_text() == text and (folder / "gradients.png").stat().st_size > 0
    with pytest.raises(MissingData, match=r"gradient_alignment"):
        write_gradient_table(tmp_path / "nowhere")


def test_a_seed_is_counted_once_a_row_whatever_tables_and_runs_are_there(make_run: Any, tmp_path: Path):
    runs = []
    for place, seed, signals in (("a/x-s0", 0, "v"), ("a/x-s1", 1, "v"), ("b/x-s0", 0, "v"), ("b/y-s0", 0, "t")):
        run = make_run(SIGNALS)
        write_object(run / "summary.json", {"algorithm": "some", "attribution": {"name": signals}, "seed": seed})
        shutil.copytree(run, tmp_path / "table" / place)
        runs.append(RunFolder.read(tmp_path / "table" / place))

    def rows(*chosen: RunFolder) -> dict[str, int]:
        return {row: len(of_row) for row, of_row in runs_by_row(chosen, tmp_path / "table").items()}

    assert rows(*runs[:2]) == {"some-v": 2}
    assert rows(*runs) == {"a/some-v": 2, "b/some-v": 1, "b/some-t": 1}
    assert rows(runs[0], replace(runs[1], summary=runs[0].summary)) == {"a/x-s0": 1, "a/x-s1": 1}
