"""The numbers that the paper published, from published.json: accuracies in percent, by table and row."""

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

TITLES = {
    "video_holmes": "Video-Holmes",
    "video_mmmu": "VideoMMMU",
    "mmvu_mc": "MMVU",
    "tempcompass": "TempCompass",
    "videomme": "VideoMME",
    "average": "average",
}


@dataclass(frozen=True)
class Published:
    """One table of the paper: ``rows[row][column]`` in percent, None where the paper has no number.

    ``models`` names the rows that are models of their own (table main). A table that the paper doesn't have is empty.
    """

    columns: tuple[str, ...] = ()
    rows: dict[str, dict[str, float | None]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    note: str = ""


def published(table: str) -> Published:
    """The paper's table of this name (main, rl_methods, signals, frames, ratio, …)."""
    entry = load()["tables"].get(table)
    if entry is None:
        return Published()
    columns = tuple(entry["columns"])
    return Published(
        columns=columns,
        rows={row: dict(zip(columns, values, strict=True)) for row, values in entry["rows"].items()},
        models={row: _model(**about) for row, about in entry.get("models", {}).items()},
        note=entry.get("note", ""),
    )


def column_title(column: str) -> str:
    return TITLES.get(column, column)


@cache
def load() -> dict[str, Any]:
    """All of published.json: ``source``, ``unit``, ``tables``, and what the paper measured of gradients."""
    return json.loads(files("ktr.tables").joinpath("published.json").read_text(encoding="utf-8"))


def _model(model: str, size: str | None, frames: float | None) -> str:
    details = [size or "", f"{frames:g} frames" if frames is not None else ""]
    return " ".join([model, *(f"({text})" for text in [", ".join(filter(None, details))] if text)])
