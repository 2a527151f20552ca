"""The files of a run folder, read for its figures and its report."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from ktr.analysis import palette
from ktr.analysis.statistics import wilson_interval
from ktr.config.settings import without_secrets
from ktr.errors import MissingData
from ktr.record.json_file import read_object, unreadable
from ktr.record.step_table import read_columns
from ktr.record.token_records import Record, read_records

NUM_ROLLOUTS = 2048
Columns = dict[str, tuple[list[int], list[float]]]


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind. Parts that it didn't write are empty.

    ``metrics`` and ``timings`` map a name to (steps, values). Without a ``title`` a run is called as its folder is.
    """

    path: Path
    metrics: Columns
    timings: Columns
    summary: dict[str, Any]
    record: dict[str, Any]
    config: str
    title: str = ""

    @classmethod
    def read(cls, path: Path) -> "RunFolder":
        """Read a run folder. Raises ``MissingData`` where there is neither metrics.csv nor summary.json,
        and where a JSON file of it is damaged."""
        if not (path / "metrics.csv").exists() and not (path / "summary.json").exists():
            raise MissingData(f"{path}: no metrics.csv and no summary.json; name a run folder, such as runs/<name>")
        config = path / "config.yaml"
        return cls(
            path=path,
            metrics=read_columns(path / "metrics.csv"),
            timings=read_columns(path / "timings.csv"),
            summary=read_object(path / "summary.json") or {},
            record=read_object(path / "record.json") or {},
            config=config.read_text(encoding="utf-8") if config.exists() else "",
        )

    @property
    def name(self) -> str:
        return self.title or self.path.resolve().name

    # Read when asked for, and of training what pages need: all of a long run take gigabytes, in the run's own process.
    @cached_property
    def rollouts(self) -> list[Record]:
        """The last training completions."""
        return list(read_records(self.path / "rollouts.jsonl", NUM_ROLLOUTS))

    @cached_property
    def attribution(self) -> list[Record]:
        """Held-out completions, with the role of each token where the ground truth is known."""
        return list(read_records(self.path / "attribution.jsonl"))

    @property
    def last_start(self) -> dict[str, Any]:
        """What record.json says of the process that ended the run: with ``step`` where it went on from there."""
        return [self.record, *self.record.get("resumed", [])][-1]

    def setting(self, key: str) -> Any:
        """A value of config.yaml by its dotted key; None without. Raises ``MissingData`` where the file is damaged."""
        node: Any = self._settings
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    @cached_property
    def _settings(self) -> Any:
        try:
            return yaml.safe_load(self.config)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise MissingData(unreadable(self.path / "config.yaml", reason)) from error

    @property
    def shown_config(self) -> str:
        """config.yaml without its secrets, for pages that others read; empty without it."""
        return (
            yaml.safe_dump(without_secrets(self._settings), sort_keys=False, allow_unicode=True) if self.config else ""
        )

    def called(self, way: str) -> str:
        """What a way of answering is called: with its temperature, where that is known and not 0."""
        temperature = self.setting(f"answers.{way}.temperature")
        return f"{way} at T = {temperature:g}" if temperature else way

    @property
    def signals(self) -> list[str]:
        """Names of the signals that scored tokens in this run, in the order of their colours."""
        return signal_order({name for record in self.rollouts + self.attribution for name in record["scores"]})

    def accuracy(self, when: Literal["before", "after"], way: str) -> dict[str, dict[str, Any]]:
        """Held-out accuracy under one way of answering: "all" and each category, each with ``n``, ``low``, ``high``.

        Empty where it was not measured. An evaluation's, which was before no training, is called after.
        """
        alone = self.summary.get("accuracy", {}) if when == "after" else {}
        entry = self.summary.get(f"accuracy_{when}", alone).get(way, {})
        if not entry.get("n"):
            return {}
        rows = {"all": entry, **entry.get("by_category", {})}
        return {name: {**_interval(row), **row} for name, row in rows.items()}


def signal_order(found: set[str]) -> list[str]:
    """The names in the order of their colours."""
    return [name for name in palette.SIGNALS if name in found] + sorted(found.difference(palette.SIGNALS))


def _interval(row: dict[str, Any]) -> dict[str, float]:
    low, high = wilson_interval(row["accuracy"] * row["n"], row["n"])
    return {"low": low, "high": high}
