"""The JSON files of a run: written whole or not at all, read with one clear error where they are damaged."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ktr.errors import MissingData, naming


def read_object(path: Path) -> dict[str, Any] | None:
    """The object that a file holds; None where there is no file. Raises ``MissingData`` where it is no JSON object."""
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingData(unreadable(path, str(error))) from error
    if not isinstance(value, dict):
        raise MissingData(unreadable(path, "no JSON object"))
    return value


def unreadable(path: Path, reason: str) -> str:
    """What is said of a run's file that cannot be read, with the remedy."""
    return f"{path}: cannot be read ({reason}); remove the run's folder, and run it again if it is wanted"


def write_object(path: Path, value: Mapping[str, Any]) -> Path:
    """Write a JSON file; return its path."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a file; a reader sees the old one or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    with naming(path):
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
