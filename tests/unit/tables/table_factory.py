"""Run folders as small as a table can be made of: what ktr.train writes, with numbers chosen by the test."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

COMMIT = "c0ffee1" + "0" * 33
ROWS = {"grpo": ["attribution=none"], "vet": ["attribution=vet"]}
NUM_STEPS = 30


def write_run(
    folder: Path,
    row: str,
    seed: int = 0,
    accuracy: float = 0.5,
    *,
    name: str = "signals",
    rows: Mapping[str, Sequence[str]] | None = ROWS,
    changes: Mapping[str, Any] | None = None,
    finished: bool = True,
    record: Mapping[str, Any] | None = None,
    seconds: float = 1.0,
    rewards: Sequence[float] | None = None,
) -> Path:
    """A run folder ``<row>-s<seed>``. ``changes`` sets dotted keys of the config; ``rows=None`` leaves the table out.

    ``rewards`` is the training accuracy of each update; an update takes ``seconds`` of CPU.
    """
    run = folder / f"{row}-s{seed}"
    run.mkdir(parents=True)
    config = _config(seed, row)
    if rows is not None:
        config["table"] = {"name": name, "title": "A table", "baseline": next(iter(rows)), "rows": rows, "row": row}
    for key, value in (changes or {}).items():
        *groups, leaf = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    argv = ["/somewhere/ktr/train.py", "+experiment=table/signals", f"table.row={row}", f"seed={seed}", "paths.runs=/x"]
    kept = {"argv": argv, "git": {"commit": COMMIT, "dirty": False}, **(record or {})}
    (run / "record.json").write_text(json.dumps(kept))
    if finished:
        answers = {way: {"accuracy": accuracy, "n": 600} for way in ("greedy", "sampled")}
        before = {way: {"accuracy": 0.25, "n": 600} for way in ("greedy", "sampled")}
        summary = {"seed": seed, "accuracy_before": before, "accuracy_after": answers}
        (run / "summary.json").write_text(json.dumps(summary))
    values = [accuracy] * NUM_STEPS if rewards is None else rewards
    write_steps(run / "metrics.csv", "reward/accuracy", list(enumerate(values, start=1)))
    write_steps(run / "timings.csv", "train/cpu_seconds", [(step, seconds) for step in range(1, len(values) + 1)])
    return run


def write_table(folder: Path, accuracies: Mapping[str, Sequence[float]], **settings: Any) -> Path:
    """A run for each row and seed; ``accuracies[row][seed]``."""
    for row, of_row in accuracies.items():
        for seed, accuracy in enumerate(of_row):
            write_run(folder, row, seed, accuracy, **settings)
    return folder


def write_steps(path: Path, column: str, rows: Sequence[tuple[int, float]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["step", column], *rows])


def results_of(folder: Path) -> str:
    """The part of table.md that rests on results alone."""
    return (folder / "table.md").read_text().partition("## How each row was made")[0]


def _config(seed: int, row: str) -> dict[str, Any]:
    return {
        "seed": seed,
        "name": f"{row}-s{seed}",
        "paths": {"run_dir": f"/runs/{row}-s{seed}", "runs": "/runs"},
        "data": {"train": {"num_questions": 2000, "seed": 0}, "questions_per_step": 16, "seed": seed},
        "video": {"num_frames": 16},
        "encoder": {"num_frames": 16},
        "optimizer": {"lr": 1e-4, "total_steps": 30},
        "trainer": {"accelerator": "cpu", "max_steps": 30},
        "attribution": {"signals": row},
        "weighting": {"signals": row},
        "algorithm": {"optimizer": {"lr": 1e-4}, "weighting": {"signals": row}, "seed": seed},
        "labels": {"algorithm": "video_ktr", "attribution": row},
    }
