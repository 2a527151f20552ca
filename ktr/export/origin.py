"""The model that a run started from: what it is called elsewhere, and under which license it is known to stand."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ktr.config.model_folder import repository_of

LICENSE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class Origin:
    """``name`` is that of a published repository, of a run, or of a folder.

    ``license`` holds the keys of the head of its card, where it has one; ``license_files`` are the texts beside it.
    """

    name: str
    license: Mapping[str, Any] = field(default_factory=dict)
    license_files: tuple[Path, ...] = ()


def origin_of(config: Mapping[str, Any]) -> Origin:
    """The origin of a run with this config; its folder need not be there any more."""
    start = Path(str(config["model"]["path"])).absolute()
    head = _head(start / "README.md")
    told = {key: head[key] for key in LICENSE_KEYS if isinstance(head.get(key), str)}
    return Origin(_name(start), told, tuple(sorted(start.glob("LICENSE*"))))


def _name(start: Path) -> str:
    for folder in start.parents[:3]:
        if (folder / "config.yaml").is_file() and (folder / "record.json").is_file():
            return folder.name
    return repository_of(start) or start.name


def _head(card: Path) -> dict[str, Any]:
    """The YAML head of a model card; {} where there is none that can be read."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        head = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    return head if isinstance(head, dict) else {}
