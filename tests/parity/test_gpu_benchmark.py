"""What ``benchmarks.gpu`` times: both ways of an update are one, and what a machine lacks is a row that says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as benchmark
from benchmarks.gpu.sizes import tiny
from benchmarks.gpu.update import ALGORITHMS, WAYS
from tests.both_ways import assert_one_loss_and_one_gradient


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert benchmark.main(["--device", "cpu", "--tiny", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("model", tiny().models)
def test_both_ways_have_one_loss_and_its_gradient(model: str, algorithm: str, tmp_path: Path):
    assert_one_loss_and_one_gradient(model, algorithm, tmp_path, torch.device("cpu"), "float32")


def test_every_row_is_measured_or_says_why_not(capsys: pytest.CaptureFixture[str]):
    rows = run(capsys)
    assert len(rows) == len(tiny().models) * (len(tiny().frames) * len(ALGORITHMS) * len(WAYS) + 2)
    assert all(row["seconds"] or row["note"] for row in rows)
    assert all(row["forecast_gib"] for row in rows if row["what"].endswith("ours"))
    assert all(row["tokens_per_second"] for row in rows if row["what"] == "generation, transformers")


def test_rows_without_memory_or_time_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def full_card(*_: Any) -> float:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setitem(WAYS, "reference", full_card)
    notes = {row["note"] for row in run(capsys) if row["what"].endswith("reference")}
    assert notes == {"out of memory"}
    assert all("no time" in row["note"] for row in run(capsys, "--budget", "-1") if "vLLM" not in row["what"])


def test_without_a_gpu_it_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main([]) == 0
    assert capsys.readouterr().out == "benchmarks.gpu: no GPU here, nothing measured\n"


def test_numbers_of_the_published_models_are_those_of_the_plan():
    card = benchmark.read_card("h100")
    plan = benchmark.full().plan("Qwen2.5-VL-7B", 64, "video_ktr", card)
    assert plan.run.prompt_tokens == benchmark.full().group("Qwen2.5-VL-7B", 64).prompt.num_tokens == 4396
    assert sum(p.count for p in plan.parameters) == 8_292_166_656
    assert {"view, masked", "view, shuffled", "tower, shuffled", "backward"} <= {one.name for one in plan.passes}
