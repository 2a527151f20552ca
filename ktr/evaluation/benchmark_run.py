"""``python -m ktr.evaluate benchmark=…``: asks all items that are not answered yet, and says what came of them.

check files ─► identity ─► items.jsonl, read back ─► ask the rest, one line each ─► results.json, pages, table
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning.pytorch import seed_everything
from omegaconf import DictConfig

from ktr.analysis.statistics import wilson_interval
from ktr.console.progress_line import ProgressLine
from ktr.console.quiet import quiet_libraries
from ktr.evaluation.asking.ask import Answerer
from ktr.evaluation.asking.asking import Asking, missing_line
from ktr.evaluation.asking.identity import claim, identity_of, refuse_other_rows
from ktr.evaluation.asking.items_file import ItemsFile, Line
from ktr.evaluation.asking.judge import refuse_verdicts
from ktr.evaluation.asking.policy import PolicyAnswers
from ktr.evaluation.asking.question import question_of
from ktr.evaluation.asking.results import model_of, results, table
from ktr.evaluation.benchmarks.check import Checked, check
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.benchmarks.media import MediaFinder
from ktr.evaluation.reports.answers_page import write_answers_page
from ktr.evaluation.rules.named import rule_named
from ktr.evaluation.rules.outcome import WITHOUT_REPLY
from ktr.policy.encoder_pool import EncoderPool
from ktr.record.json_file import write_object
from ktr.record.run_record import start_run
from ktr.sweep.run_lock import run_lock


def ask_benchmark(config: DictConfig) -> str:
    """The table of a benchmark's accuracies, its last line the path of results.json.

    Goes on where an earlier run in the folder was cut off, and asks no item twice. Raises ``RunInUse`` where another
    process writes there, ``ConfigError`` where the folder's items were asked otherwise, ``MissingData`` where media are
    missing and that is not allowed.
    """
    quiet_libraries()
    seed_everything(config.seed, verbose=False)
    run_dir = Path(config.paths.run_dir)
    checked = check(instantiate(config.benchmark))
    present = checked.require()
    with run_lock(run_dir):
        rule_name = config.rule or checked.benchmark.rule
        identity = identity_of(config, checked, rule_name)
        claim(run_dir, identity)
        with closing(ItemsFile(run_dir / "items.jsonl")) as file:
            if config.judge is None:
                refuse_verdicts(run_dir, file.lines.values())
            there = {item.id for item in present}
            file.drop(lambda line: line["id"] in there and _is_asked_again(line, config.retry_failed))
            refuse_other_rows(run_dir, present, file.lines)
            _note_missing(file, checked)
            if remaining := [item for item in present if item.id not in file.lines]:
                start_run(run_dir, config, config.seed)
                _ask(config, remaining, checked, rule_name, file)
            if config.judge is not None:
                _judge(config, file)
            file.put_in_order([item.id for item in checked.loaded.items])
            lines = [*file.lines.values()]
        if config.judge is not None:
            identity |= {"judge": {"name": config.judge.name, "prompt": config.judge.prompt}}
        result = results(config.name, identity, lines, checked.benchmark.metric)
        result |= model_of(config) | {"seed": config.seed}
        result |= {"rows_skipped": len(checked.loaded.skips), "media_missing": len(checked.missing)}
        path = write_object(run_dir / "results.json", result)
        page = write_answers_page(run_dir)
    return f"{table(result)}\n{page}\n{path}"


def _ask(config: DictConfig, items: Sequence[Item], checked: Checked, rule_name: str, file: ItemsFile) -> None:
    finder = MediaFinder(str(Path(checked.benchmark.media_root).expanduser()))
    asking = Asking(
        items,
        lambda item: question_of(item, checked.benchmark.name, finder),
        instantiate(config.prompt),
        instantiate(config.decoding),
        rule_named(rule_name),
        config.seed,
    )
    so_far = RunningAccuracy(file.lines.values())
    total = len(checked.loaded.items)
    with closing(answerer_of(config)) as answerer, ProgressLine("evaluate", total, len(file.lines)) as progress:
        for line in asking.lines(answerer):
            file.append(line)
            so_far.add(line)
            progress.advance(1, 1, line["completion_tokens"], detail=str(so_far))


def _judge(config: DictConfig, file: ItemsFile) -> None:
    judge = instantiate(config.judge)
    lines = [line for line in file.lines.values() if judge.concerns(line)]
    with ProgressLine("judge", len(lines)) as progress:
        for line in judge.lines(lines):
            file.append(line)
            progress.advance(1, 1)


def answerer_of(config: DictConfig) -> Answerer:
    """Who is asked: the endpoint, if one is chosen, else the policy."""
    if config.endpoint is not None:
        return instantiate(config.endpoint)
    policy = instantiate(config.model).eval().to("cuda" if torch.cuda.is_available() else "cpu")
    engine = instantiate(config.rollout, policy=policy)
    return PolicyAnswers(
        policy, engine, EncoderPool(instantiate(config.encoder)), config.batch_size, config.num_decoders
    )


class RunningAccuracy:
    """The accuracy of the lines so far, as a progress line says it."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.correct, self.n, self.outcomes = 0.0, 0, Counter[str]()
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        self.outcomes[line["outcome"]] += 1
        if line["outcome"] not in WITHOUT_REPLY:
            self.correct += line["score"]
            self.n += 1

    def __str__(self) -> str:
        low, high = wilson_interval(self.correct, self.n)
        others = [f"{self.outcomes[name]} {name}" for name in WITHOUT_REPLY if self.outcomes[name]]
        share = f"accuracy {100 * self.correct / self.n:.1f} ({100 * low:.1f}–{100 * high:.1f})" if self.n else ""
        return " · ".join(filter(None, [share, *others]))


def _is_asked_again(line: Line, retry: bool) -> bool:
    """Of an item whose media are there: it has no reply, and was not asked since they were missing, or ``retry``."""
    return line["outcome"] in WITHOUT_REPLY and (retry or "num_frames" not in line)


def _note_missing(file: ItemsFile, checked: Checked) -> None:
    for item, path in checked.missing:
        if item.id not in file.lines:
            file.append(missing_line(item, path))
