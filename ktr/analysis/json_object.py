"""A JSON file of a run, read with one clear error where it is damaged."""

import json
from pathlib import Path
from typing import Any

from ktr.errors import MissingData


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
    return f"{path}: cannot be read ({reason}); remove the run's folder, or run it again"
