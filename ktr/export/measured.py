"""What an exported policy was measured at: held-out questions of its run, and benchmarks."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ktr.analysis.statistics import wilson_interval
from ktr.export.chosen_weights import Weights
from ktr.record.json_file import read_object
from ktr.record.step_table import read_columns


def held_out(run_dir: Path, summary: Mapping[str, Any], weights: Weights) -> dict[str, dict[str, Any]]:
    """Accuracy on the run's held-out questions by way of answering, with ``low``, ``high``, ``n`` and ``before``.

    Of a checkpoint it is that of the validation at its update, if there was one.
    """
    before = summary.get("accuracy_before") or read_object(run_dir / "start.json") or {}
    after = (summary.get("accuracy_after") or {}) if weights.is_final else _at_step(run_dir, weights.step, before)
    return {
        way: {**figures, "before": (before.get(way) or {}).get("accuracy")}
        for way, figures in after.items()
        if figures.get("accuracy") is not None
    }


def _at_step(run_dir: Path, step: int | None, before: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By the run's metrics.csv, which has accuracies; they are of as many questions as at its start."""
    found = {}
    for name, (steps, values) in read_columns(run_dir / "metrics.csv").items():
        if step in steps and fnmatchcase(name, "val/*/accuracy"):
            way, accuracy = name.split("/")[1], values[steps.index(step)]
            figures: dict[str, Any] = {"accuracy": accuracy}
            if n := (before.get(way) or {}).get("n"):
                low, high = wilson_interval(min(accuracy, 1.0) * n, n)
                figures |= {"n": n, "low": low, "high": high}
            found[way] = figures
    return found


def benchmarks(result: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the card of a results.json, whatever that lacks: ``name``, ``asked``, ``figures`` and ``by_subtask``."""
    identity, summary = result.get("identity") or {}, result.get("summary") or {}
    video, named = identity.get("video") or {}, identity.get("benchmark")
    asked = {
        "frames": video.get("num_frames"),
        "pixels at most": video.get("max_pixels"),
        "rule": identity.get("rule"),
        "seed": identity.get("seed"),
    }
    subtasks = summary.get("by_subtask") or {}
    return {
        "name": result.get("benchmark")
        or (named.get("name") if isinstance(named, Mapping) else named)
        or "a benchmark",
        "asked": ", ".join(f"{about}: {value}" for about, value in asked.items() if value is not None),
        "figures": {key: summary.get(key) for key in ("accuracy", "n")}
        | {"low": summary.get("accuracy_low"), "high": summary.get("accuracy_high")},
        "by_subtask": {
            subtask: figures
            for subtask, figures in subtasks.items()
            if len(subtasks) > 1 and figures.get("accuracy") is not None
        },
    }
