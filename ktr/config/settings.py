"""What decides a run's result: the values of its config.yaml, without those that only say where and how it is shown.

Two runs with equal settings, of one commit, are one run: a sweep may take the one for the other, and a table may
compare two rows that differ in nothing but what the rows are about.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from re import compile as pattern
from typing import Any

# Top-level keys that cannot change a result: names, places, observers. `table` is about the row, not about the run.
NOT_SETTINGS = frozenset({"name", "resume", "paths", "logger", "callbacks", "labels", "table", "hydra"})
# How frames are read ahead, and which of them are kept: they are the same frames. (prefetch: of configs before 0.2)
_NO_SETTING = ("encoder.cache.", "data.num_decoders", "data.prefetch")
_SECRET_KEY = pattern(r"(?i)(^|_)(key|password|passwd|secret|credentials?|(^|auth|access|api|hf|bearer)_?token)$")
_SECRET_OF_A_URL = pattern(r"(?<=://)[^/@\s]+(?=@)")
_PACKAGE = Path(__file__).parent.parent
# Folders whose place is the machine's affair: a value below one of them is compared from there on.
_PLACES = ("run_dir", "cache", "models", "data", "runs")


def settings(config: Mapping[str, Any], without: Collection[str] = NOT_SETTINGS) -> dict[str, Any]:
    """The settings of a resolved config, by dotted key; a list is one value. ``without`` are top-level keys left out.

    Paths below the folders of ``config["paths"]`` start with ``<run_dir>``, ``<cache>``, ``<models>``, ``<data>`` or
    ``<runs>``, those of files that ktr ships with ``<ktr>``, so that runs of different machines, checkouts or folders
    compare equal.
    """
    paths = config.get("paths", {})
    places = {str(paths[name]): f"<{name}>" for name in _PLACES if paths.get(name)}
    leaves = _leaves({key: value for key, value in config.items() if key not in without}, "", places)
    return {key: value for key, value in leaves if not key.startswith(_NO_SETTING)}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys in which two ``settings`` differ, with both values; None stands for a key that is not there."""
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def without_secrets(node: Any) -> Any:
    """A resolved config that can be shown to others: keys that name a secret, and users in a URL, have no value."""
    if isinstance(node, Mapping):
        return {
            key: "<secret>" if isinstance(value, str) and _SECRET_KEY.search(str(key)) else without_secrets(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [without_secrets(value) for value in node]
    return _SECRET_OF_A_URL.sub("<secret>", node) if isinstance(node, str) else node


def override_without_secrets(override: str) -> str:
    """``reward.rewards.mine.api_key=hush`` likewise, as a command line has it."""
    key, found, value = override.partition("=")
    return f"{key}{found}{value_without_secrets(key, value)}"


def value_without_secrets(key: str, value: Any) -> Any:
    """The value of a dotted key, likewise."""
    return without_secrets({key.rpartition(".")[2]: value}).popitem()[1]


def _leaves(node: Any, at: str, places: Mapping[str, str]) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping):
        return [
            leaf for key, child in node.items() for leaf in _leaves(child, f"{at}.{key}" if at else str(key), places)
        ]
    return [(at, _placed(node, places) if isinstance(node, str) else node)]


def _placed(value: str, places: Mapping[str, str]) -> str:
    for place, name in places.items():
        if value == place or value.startswith(f"{place}/"):
            return name + value[len(place) :]
    _, found, shipped = value.rpartition("/ktr/")
    return f"<ktr>/{shipped}" if found and (_PACKAGE / shipped).exists() else value
