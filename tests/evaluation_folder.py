"""Folders of evaluations as ktr.evaluate writes them, with answers chosen by the test, and no model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ktr.evaluation.asking.asking import about
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.asking.results import results
from ktr.evaluation.benchmarks.item import Item, ItemMedium
from ktr.evaluation.rules.asked import Asked
from ktr.record.json_file import write_object

OPTIONS = ("A. red", "B. blue")


def item_line(number: int, outcome: str = "right", subtask: str = "", **more: Any) -> Line:
    """The line of an item whose right answer is A, about one of every two items' video; ``more`` takes precedence."""
    item = Item(str(number), Asked("A", options=OPTIONS, question=f"Question {number}?"),
                (ItemMedium((f"{number // 2}.mp4",)),), subtask=subtask or f"task {number % 3}")  # fmt: skip
    without = outcome in ("failed", "media_missing")
    prediction = {"right": "A", "wrong": "B"}.get(outcome)
    answered = {
        "num_frames": [] if without else [16], "output": None if without else f"<answer>{prediction}</answer>",
        "finish_reason": None if without else "stop", "prediction": prediction, "outcome": outcome,
        "score": float(outcome == "right"), "reason": "it broke" if without else "", "seconds": 0.1,
        "prompt_tokens": 40, "completion_tokens": 5, "cost": None,
    }  # fmt: skip
    return about(item) | answered | more


def write_evaluation(
    folder: Path,
    lines: Sequence[Line],
    model: str = "",
    *,
    benchmark: str = "shapes",
    metric: str = "micro",
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """A folder of a finished evaluation. ``changes`` sets dotted keys of the identity; a model without / is served."""
    model = model or f"/models/{folder.name}"
    identity = _identity(benchmark, len(lines), model)
    for key, value in (changes or {}).items():
        *groups, leaf = key.split(".")
        node = identity
        for group in groups:
            node = node[group]
        node[leaf] = value
    folder.mkdir(parents=True)
    write_object(folder / "identity.json", identity)
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = results(folder.name, identity, lines, metric) | {"model": model, "rows_skipped": 0, "media_missing": 0}
    write_object(folder / "results.json", found)
    return folder


def _identity(benchmark: str, num_items: int, model: str) -> dict[str, Any]:
    asked = {
        "benchmark": {
            "name": benchmark, "limit": None, "allow_missing": False, "num_items": num_items, "hash": f"{num_items:06}",
        },
        "rule": "strict",
        "prompt": {"instruction": "Think."},
        "video": {"num_frames": 16, "max_pixels": 3136},
        "decoding": {"num_frames": 16, "sampling": {"num_completions": 1, "max_tokens": 64, "temperature": 0.0}},
        "seed": 0,
    }  # fmt: skip
    if "/" not in model:
        return asked | {"endpoint": {"_target_": "Endpoint", "model": model}}
    return asked | {
        "model": {"dtype": "float32", "weights": model},
        "engine": {"_target_": "Engine"},
        "versions": {"torch": "1"},
    }
