"""The dashboards: built and serialised without a network, of metrics that the table of metrics knows."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ktr.dashboard.__main__ import main
from ktr.record.metrics import METRICS
from ktr.record.panels import PANELS


@pytest.fixture
def specifications(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    path = tmp_path / "workspace.json"
    assert main(["someone/videos", "--output", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    return json.loads(path.read_text())


def panels(specification: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for section in specification["spec"]["section"]["panelBankConfig"]["sections"]:
        yield from (panel["config"] for panel in section["panels"])


def test_both_workspaces_hold_every_panel_over_the_updates(specifications: dict[str, Any]):
    for kind in ("runs", "sweep"):
        assert [panel["chartTitle"] for panel in panels(specifications[kind])] == [panel.title for panel in PANELS]
        assert all(panel["metrics"] or panel["metricRegex"] for panel in panels(specifications[kind]))
        assert {panel["xAxis"] for panel in panels(specifications[kind])} == {"step"}
    grouping = specifications["sweep"]["spec"]["section"]["runSets"][0]["grouping"]
    assert [key["name"] for key in grouping] == ["table.value.row", "seed.value"] and specifications["runs"] != {}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panels_metrics_are_in_the_table(panel: Any):
    known = [row.pattern.replace("*", "x") for row in METRICS]
    for name in panel.names:
        parts = ["visual", "temporal", "entropy", "random", "x", "role/x"]
        also = [f"grad/{what}/{part}" for what in ("norm", "cosine") for part in parts]
        assert type(panel)("", "", (name,)).among([*known, *also, "grad/cosine/selected", "grad/cosine/rest"]), name


@pytest.mark.parametrize("place", ["videos", "someone/", "/videos", "a/b/c", ""])
def test_a_place_that_is_none_is_one_sentence(place: str, capsys: pytest.CaptureFixture[str]):
    assert main([place]) == 2
    assert "give entity/project" in capsys.readouterr().err


def test_without_a_key_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import wandb

    monkeypatch.setattr(type(wandb.api), "api_key", None)
    assert main(["someone/videos"]) == 2
    assert "wandb login" in capsys.readouterr().err


def test_without_its_package_what_to_install_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert main(["someone/videos"]) == 2
    assert capsys.readouterr().err.endswith("wandb-workspaces is not installed: pip install 'ktr[analysis]'\n")
