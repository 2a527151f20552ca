"""A chat model as the judge of what no rule can read: whether a reply means the right answer."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from string import Formatter

from ktr.errors import ConfigError
from ktr.evaluation.asking.ask import Answered, Answerer, Ask
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.outcome import Outcome
from ktr.rollout.engine import SamplingParams
from ktr.types import VideoQuestion

FIELDS = ("question", "options", "answer", "reply")
VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
OPEN = ("free-form", "OCR")
JUDGED = (Outcome.WRONG, Outcome.UNPARSABLE)


class Judge:
    """Asks ``endpoint`` about items whose answer is in words of one's own, or in whose reply the rule reads none.

    ``prompt`` may hold ``FIELDS`` in braces. A line that was judged has ``judged_by`` and ``outcome_by_rule``; where
    the judge says neither yes nor no, or nothing, the rule's outcome stands.
    """

    def __init__(self, endpoint: Answerer, prompt: str, name: str, max_tokens: int = 16) -> None:
        if unknown := {field for _, field, _, _ in Formatter().parse(prompt) if field is not None}.difference(FIELDS):
            raise ConfigError(f"judge.prompt: {sorted(unknown)} are no fields; there are {', '.join(FIELDS)}")
        self.endpoint, self.prompt, self.name = endpoint, prompt, name
        self.sampling = SamplingParams(1, max_tokens, temperature=0.0)

    def concerns(self, line: Line) -> bool:
        """Whether an item is the judge's, and not judged by it yet."""
        by_rule = line.get("outcome_by_rule", line["outcome"])
        is_open = line["problem_type"] in OPEN and by_rule in JUDGED
        return (
            (is_open or by_rule == Outcome.UNPARSABLE) and bool(line["output"]) and line.get("judged_by") != self.name
        )

    def lines(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines that it is asked about, with its verdict, as they end."""
        waiting = deque(line for line in lines if self.concerns(line))
        by_id = {line["id"]: line for line in waiting}
        with closing(self.endpoint):
            for answered in self.endpoint.answers(lambda: self._ask(waiting.popleft()) if waiting else None):
                yield self._judged(by_id[answered.ask.item.id], answered)

    def _ask(self, line: Line) -> Ask:
        text = self.prompt.format(
            question=line["question"],
            options="\n".join(line["options"]),
            answer=line["written"] or line["answer"],
            reply=line["output"],
        )
        question = VideoQuestion(line["id"], text, "free-form", line["answer"], ())
        return Ask(Item(line["id"], Asked(line["answer"]), ()), question, 2, self.sampling, question.seed(self.name))

    def _judged(self, line: Line, answered: Answered) -> Line:
        by_rule = line.get("outcome_by_rule", line["outcome"])
        found = VERDICT.search(answered.replies[0].text) if answered.replies else None
        cost = (line["cost"] or 0.0) + answered.cost if answered.cost is not None else line["cost"]
        judged = line | {"judged_by": self.name, "outcome_by_rule": by_rule, "cost": cost}
        if found is None:
            return judged | {"outcome": by_rule, "reason": answered.reason or "the judge says neither yes nor no"}
        is_right = found.group(1).lower() == "yes"
        outcome = Outcome.RIGHT if is_right else Outcome.WRONG
        return judged | {"outcome": outcome.value, "score": float(is_right), "reason": ""}
