"""Benchmarks beside the held-out questions: a small part of each, always the same, measured while a run trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from lightning.pytorch import Callback, LightningModule, Trainer

from ktr.console.progress_line import ProgressLine
from ktr.errors import MissingData
from ktr.evaluation.asking.asking import Asking
from ktr.evaluation.asking.decoding import OneRound
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.asking.policy import PolicyAnswers
from ktr.evaluation.asking.question import question_of
from ktr.evaluation.asking.results import scored_of
from ktr.evaluation.benchmarks.benchmark import Benchmark
from ktr.evaluation.benchmarks.check import check
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.evaluation.rules.named import rule_named
from ktr.evaluation.scores import summarize
from ktr.policy.encoder_pool import EncoderPool
from ktr.ranks import gather_over_ranks
from ktr.rollout.engine import SamplingParams


class BenchmarkValidation(Callback):
    """At each validation ``num_items`` of each benchmark are asked as the run asks, greedily, and judged by its rule.

    ``summary`` has each benchmark's ``accuracy`` with its interval ``low`` to ``high`` over the ``n`` items that have a
    reply. Items are shared out over ranks. Raises ``MissingData`` where a benchmark or its media are not there, and
    where none of the items has an accuracy.
    """

    def __init__(
        self, benchmarks: Mapping[str, Benchmark], num_items: int, encoders: EncoderPool, max_tokens: int, seed: int
    ) -> None:
        self.benchmarks = {
            name: (benchmark, fixed_part(benchmark, num_items)) for name, benchmark in benchmarks.items()
        }
        self.encoders, self.seed = encoders, seed
        self.decoding = OneRound(encoders.num_frames, SamplingParams(1, max_tokens, temperature=0.0))
        self.summary: dict[str, dict[str, Any]] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        answerer = PolicyAnswers(module.policy, module.engine, self.encoders)
        for name, (benchmark, items) in self.benchmarks.items():
            mine = items[trainer.global_rank :: trainer.world_size]
            lines = gather_over_ranks(self._lines(name, benchmark, mine, answerer))
            summary = summarize([scored_of(line) for line in lines], benchmark.metric)
            if summary["accuracy"] is None and summary.get("mra") is None:
                raise MissingData(
                    f"validation.benchmarks: none of {len(lines)} items of {name} can be asked: mend their media, "
                    "raise validation.num_items, or leave it out"
                )
            bounds = {"low": summary["accuracy_low"], "high": summary["accuracy_high"]}
            kept = ("accuracy", "mra", "n", "left_out")
            self.summary[name] = {key: summary[key] for key in kept if key in summary} | bounds
            figures = {"accuracy": summary.get("accuracy_of_all", summary["accuracy"]), "mra": summary.get("mra")}
            for figure, value in figures.items():
                if value is not None:  # of numbers alone there is no accuracy
                    pl_module.log(f"benchmark/{name}/{figure}", value)

    def _lines(self, name: str, benchmark: Benchmark, items: Sequence[Item], answerer: PolicyAnswers) -> list[Line]:
        finder = MediaFinder(str(Path(benchmark.media_root).expanduser()))
        asking = Asking(
            items,
            lambda item: question_of(item, name, finder),
            self.encoders.template,
            self.decoding,
            rule_named(benchmark.rule),
            self.seed,
        )
        with ProgressLine(name, len(items), live=False) as progress:
            lines = []
            for line in asking.lines(answerer):
                lines.append(line)
                progress.advance(1, 1, line["completion_tokens"])
        return lines


def fixed_part(benchmark: Benchmark, num_items: int) -> list[Item]:
    """``num_items`` of a benchmark, spread over it by their ids: the same in each run. Raises ``MissingData``."""
    items = check(benchmark).require()
    chosen = sorted(items, key=lambda item: crc32(item.id.encode()))[:num_items]
    return [item for item in items if item in chosen]
