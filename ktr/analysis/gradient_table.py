"""The paper's figure of gradients (Fig. 11) from the runs below a folder: by row, over seeds, beside the published."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.statistics import MeanInterval, mean_interval
from ktr.errors import MissingData
from ktr.record.json_file import write_whole
from ktr.record.panels import PUBLISHED

FIRST, LAST = ("selected", "rest", "visual", "temporal", "entropy"), "random"  # between them any other signal
COLORS = (palette.AFTER, palette.BEFORE, *palette.OTHER_SIGNALS)  # of rows
_VARIANCES = {"loss/variance": "loss variance, tokens with a weight", "loss/variance_all": "loss variance, all tokens"}

Values = dict[str, dict[str, MeanInterval]]  # metric → row → its mean over the seeds' means over the run


def write_gradient_table(folder: Path) -> tuple[str, Path]:
    """The table as text, and the path of gradients.md, with gradients.png beside it. Raises ``MissingData``."""
    runs = {path.parent: RunFolder.read(path.parent) for path in sorted(folder.glob("**/summary.json"))}
    measured = [run for run in runs.values() if "grad/norm/all" in run.metrics]
    if not measured:
        raise MissingData(f"{folder}: no finished run below it has measured gradients (callbacks.gradient_alignment)")
    by_row = runs_by_row(measured, folder)
    values = gradient_values(by_row)
    text = "\n".join(_lines(values, by_row)) + "\n"
    write_whole(folder / "gradients.md", text)
    with matplotlib.rc_context(STYLE):
        _draw(values, list(by_row)).savefig(folder / "gradients.png")
    return text, folder / "gradients.md"


def gradient_values(by_row: Mapping[str, Sequence[RunFolder]]) -> Values:
    """Each metric of gradients and loss variance: the mean over each run, and over its row's seeds."""
    logged = dict.fromkeys(name for runs in by_row.values() for run in runs for name in run.metrics)
    names = [name for name in logged if name.startswith("grad/") or name in _VARIANCES]
    return {
        name: {
            row: mean_interval([float(np.mean(run.metrics[name][1])) for run in runs if name in run.metrics])
            for row, runs in by_row.items()
            if any(name in run.metrics for run in runs)
        }
        for name in names
    }


def shown_parts(values: Values) -> list[str]:
    """The parts of the tokens: selected, rest, each signal, random."""
    measured = {name.split("/")[2] for name in values if name.count("/") == 2}
    return [*FIRST, *sorted(measured.difference(FIRST, [LAST, "all"])), LAST]


def runs_by_row(runs: Sequence[RunFolder], folder: Path) -> dict[str, list[RunFolder]]:
    """The runs of each row, none with another's seed: then they are of several tables, which may hold copies of a run,
    or differ in more, and rows are told apart by the folder they stand in, or by their own."""
    by_row: dict[str, list[RunFolder]] = {}
    for called in (
        _row,
        lambda run: f"{run.path.parent.name}/{_row(run)}",
        lambda run: str(run.path.relative_to(folder)),
    ):
        by_row = {}
        for run in runs:
            by_row.setdefault(called(run), []).append(run)
        if all(len({run.summary.get("seed") for run in of_row}) == len(of_row) for of_row in by_row.values()):
            break
    return by_row


def _row(run: RunFolder) -> str:
    labels = [run.summary.get("algorithm"), run.summary.get("attribution", {}).get("name")]
    return str(run.setting("table.row") or "-".join(filter(None, labels)) or run.name)


def _lines(values: Values, by_row: Mapping[str, Sequence[RunFolder]]) -> list[str]:
    rows = list(by_row)
    lines = ["| | published | " + " | ".join(f"{row} (n = {len(by_row[row])})" for row in rows) + " |"]
    lines.append("|---" * (2 + len(rows)) + "|")
    roles = sorted({name.rpartition("/")[2] for name in values if "/role/" in name})
    for what in ("norm", "cosine"):
        for part in (*shown_parts(values), *(f"role/{role}" for role in roles)):
            lines.append(_line(f"grad/{what}/{part}", f"{what}, {part.replace('role/', 'words: ')}", values, rows))
    for name, label in _VARIANCES.items():
        lines.append(_line(name, label, values, rows))
    return [line for line in lines if line]


def _line(name: str, label: str, values: Values, rows: Sequence[str]) -> str:
    if not values.get(name):
        return ""
    published = f"{PUBLISHED[name]:g}" if name in PUBLISHED else ""
    cells = [_cell(values[name][row]) if row in values[name] else "" for row in rows]
    return f"| {label} | {published} | " + " | ".join(cells) + " |"


def _cell(value: MeanInterval) -> str:
    return f"{value.mean:.3f}" + ("" if value.half_width is None else f" ± {value.half_width:.3f}")


def _draw(values: Values, rows: Sequence[str]) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("norm", "cosine"), strict=True):
        parts = [part for part in shown_parts(values) if values.get(f"grad/{what}/{part}")]
        width = 0.8 / len(rows)
        for at, row in enumerate(rows):
            found = [values[f"grad/{what}/{part}"].get(row) for part in parts]
            places = [place + at * width for place, value in enumerate(found) if value is not None]
            means = [value.mean for value in found if value is not None]
            errors = [value.half_width or 0.0 for value in found if value is not None]
            axes.bar(places, means, width * 0.9, yerr=errors, label=row, color=COLORS[at % len(COLORS)])
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(parts))], parts)
        axes.set_title({"norm": "norm of the part's gradient", "cosine": "cosine with the whole"}[what])
    figure.axes[0].legend()
    return figure
