"""Replies that are on disk, scored again by named rules: without a model, and without torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ktr.evaluation.compare import Compared, compare
from ktr.evaluation.records import Replies, Reply, read_replies
from ktr.evaluation.rules.named import rule_named
from ktr.evaluation.rules.outcome import WITHOUT_REPLY, Judgement, Outcome, Rule, judge
from ktr.evaluation.score_table import accuracy_lines, closing_lines
from ktr.evaluation.scores import Scored, summarize
from ktr.record.json_file import write_object

SHOWN = 5


def rescore(config: Mapping[str, Any]) -> str:
    """The table of a file's accuracies under each rule of ``config.rule``; ``config.output`` gets them as JSON.

    Raises ``ConfigError`` for a rule that is not there or fields that no record has, ``MissingData`` for the file.
    """
    named = [config["rule"]] if isinstance(config["rule"], str) else list(config["rule"])
    rules = {name: rule_named(name) for name in named}
    path = Path(config["rescore"]).expanduser()
    replies = read_replies(path, config["fields"])
    summaries = {name: summarize(scored(replies.replies, rule), config["metric"]) for name, rule in rules.items()}
    if config["output"] is not None:
        read = {"records": len(replies.replies), "duplicates": replies.duplicates, "skips": len(replies.skips)}
        write_object(Path(config["output"]).expanduser(), {"file": str(path), **read, "rules": summaries})
    texts = [_about(path, replies), *(_table(name, summary) for name, summary in summaries.items())]
    if config["against"] is not None:
        other = read_replies(Path(config["against"]).expanduser(), config["fields"])
        pairs = {name: (_replied(other, rule), _replied(replies, rule)) for name, rule in rules.items()}
        texts += [_compared(name, config["against"], compare(*pair)) for name, pair in pairs.items()]
    return "\n\n".join(texts)


def scored(replies: Sequence[Reply], rule: Rule) -> list[Scored]:
    """The replies judged by a rule; what has no reply keeps its outcome."""
    shared = Counter(reply.id for reply in replies)
    return [
        Scored(
            id=_name(reply, place, shared[reply.id] > 1),
            judgement=_judged(reply, rule),
            subtask=reply.subtask,
            video=reply.video,
            is_regression=reply.asked.problem_type == "regression",
        )
        for place, reply in enumerate(replies)
    ]


def _replied(replies: Replies, rule: Rule) -> list[Scored]:
    """Those that a comparison is about: a failure is no wrong answer."""
    return [item for item in scored(replies.replies, rule) if item.judgement.outcome not in WITHOUT_REPLY]


def _name(reply: Reply, place: int, is_shared: bool) -> str:
    """What an item is called in every file of the same benchmark."""
    if reply.id is None:
        return str(place)
    return f"{reply.id} {reply.video} {reply.asked.question}" if is_shared else reply.id


def _judged(reply: Reply, rule: Rule) -> Judgement:
    if reply.text is None or reply.outcome is not None:
        return Judgement(None, reply.outcome or Outcome.FAILED, 0.0)
    return judge(rule, reply.text, reply.asked, reply.cut_off)


def _about(path: Path, replies: Replies) -> str:
    lines = [f"{path}: {len(replies.replies)} items"]
    if replies.duplicates:
        lines.append(f"{replies.duplicates} records were of an item that is there again: the last of each counts")
    if replies.shared_ids:
        lines.append(f"{replies.shared_ids} ids are those of several questions, which are counted apart")
    if not any(reply.id is not None for reply in replies.replies):
        lines.append("no record has an id, so that none is known to be there twice: give fields.id=…")
    lines += [f"skipped: {len(replies.skips)} records"] * bool(replies.skips)
    return "\n".join([*lines, *(f"  {skip}" for skip in replies.skips[:SHOWN])])


def _compared(rule: str, against: str, compared: Compared) -> str:
    return (
        f"rule {rule}, against {against}: {compared.n} items in common, about {compared.num_videos} videos\n"
        f"{compared.gained} are right here alone, {compared.lost} there alone; McNemar's p = {compared.p:.3g}\n"
        f"difference {100 * compared.difference:+.2f}, over videos "
        f"{100 * compared.low:+.2f} to {100 * compared.high:+.2f}"
    )


def _table(rule: str, summary: Mapping[str, Any]) -> str:
    named = [(name or "-", figures) for name, figures in summary["by_subtask"].items()]
    lines = [f"rule {rule}", *accuracy_lines([*(named if len(named) > 1 else []), ("all", summary)])]
    return "\n".join([*lines, *closing_lines(summary)])
