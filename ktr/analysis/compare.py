"""compare.html: several runs on the same axes, and their figures at the end side by side."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ktr.analysis.figure_style import STYLE
from ktr.analysis.html import write_page
from ktr.analysis.panel_figures import draw_section
from ktr.analysis.run_folder import RunFolder
from ktr.errors import MissingData
from ktr.record.panels import PUBLISHED, sections

_OF_ATTRIBUTION = {
    "visual AUROC": "visual_auroc",
    "temporal AUROC": "temporal_auroc",
    "temporal specificity": "temporal_specificity",
    "entropy AUROC": "entropy_auroc",
    "tokens selected": "union_fraction",
}


def write_comparison(run_dirs: Sequence[Path], output: Path) -> Path:
    """One page of ``run_dirs``, from their folders alone. Raises ``MissingData`` where one holds no run."""
    if len(run_dirs) < 2:
        raise MissingData("compare: name two run folders at least")
    runs = [RunFolder.read(path) for path in run_dirs]
    if len({run.name for run in runs}) < len(runs):  # rows of two tables
        runs = [replace(run, title=str(run.path)) for run in runs]
    figures = {}
    with matplotlib.rc_context(STYLE):
        for section in sections():
            if (figure := draw_section(runs, section)) is not None:
                drawn = BytesIO()
                figure.savefig(drawn, format="png")
                figures[section] = b64encode(drawn.getvalue()).decode()
    return write_page(output, "compare.html", runs=runs, rows=comparison_rows(runs), figures=figures)


def comparison_rows(runs: Sequence[RunFolder]) -> list[tuple[str, list[str]]]:
    """(what, its value in each run): accuracies with intervals, means over the run, attribution; as text."""
    rows = [("algorithm", [str(run.summary.get("algorithm", "")) for run in runs])]
    rows.append(("seed", [str(run.summary.get("seed", "")) for run in runs]))
    rows.append(("updates", [str(run.summary.get("num_updates", "unfinished")) for run in runs]))
    for way in ("sampled", "greedy"):
        for when in ("before", "after"):
            entries = [run.accuracy(when, way).get("all", {}) for run in runs]
            rows.append((f"accuracy {when}, {way}", [_with_interval(entry) for entry in entries]))
    measured = dict.fromkeys(name for run in runs for name in run.metrics if name.startswith("grad/"))
    for name in dict.fromkeys([*PUBLISHED, *measured]):
        beside = f" (published {PUBLISHED[name]:g})" if name in PUBLISHED else ""
        cells = [_mean(run.metrics.get(name, ([], []))[1]) for run in runs]
        rows.append((f"{name}, mean{beside}", cells))
    for label, key in _OF_ATTRIBUTION.items():
        found = [run.summary.get("attribution", {}).get(key) for run in runs]
        rows.append((label, ["" if value is None else f"{value:.3f}" for value in found]))
    rows.append(("tokens/s", [_rate(run) for run in runs]))
    return [(what, cells) for what, cells in rows if any(cells)]


def _with_interval(entry: dict[str, Any]) -> str:
    if not entry:
        return ""
    low, high = (100 * entry[end] for end in ("low", "high"))
    return f"{100 * entry['accuracy']:.1f} % ({low:.1f} to {high:.1f})"


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else ""


def _rate(run: RunFolder) -> str:
    if (rate := run.summary.get("tokens_per_second")) is None:
        return ""
    ranks = run.last_start.get("ranks", 1)
    return f"{rate:,.0f}" + (f" on rank 0 of {ranks}" if ranks > 1 else "")
