"""A chat model as the judge of what no rule can read: whether a reply means the right answer."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from ktr.data.row_media import MARKER
from ktr.errors import ConfigError
from ktr.evaluation.asking.ask import Answered, Answerer, Ask
from ktr.evaluation.asking.identity import hash_of
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.outcome import Outcome
from ktr.rewards.served_model import check_fields
from ktr.rollout.engine import SamplingParams
from ktr.types import VideoQuestion

FIELDS = ("question", "options", "answer", "reply")
VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
OPEN = ("free-form", "OCR")
OF_A_JUDGE = ("judged_by", "judge_prompt", "outcome_by_rule", "score_by_rule")
JUDGED = (Outcome.WRONG, Outcome.UNPARSABLE)


class Judge:
    """Asks ``endpoint`` about items whose answer is in words of one's own, or in whose reply the rule reads none.

    ``prompt`` may hold ``FIELDS`` in braces. A line that was judged has ``judged_by``, a hash of the prompt, and what
    the rule had found; where the judge says neither yes nor no that stands. So it does where no reply comes, and the
    judge is asked again the next time.
    """

    def __init__(self, endpoint: Answerer, prompt: str, name: str, max_tokens: int = 16) -> None:
        check_fields("judge.prompt", prompt, FIELDS)
        self.endpoint, self.prompt, self.name = endpoint, prompt, name
        self.sampling = SamplingParams(1, max_tokens, temperature=0.0)
        self._hash = hash_of(prompt)

    def concerns(self, line: Line) -> bool:
        """Whether an item is the judge's, and not judged by it yet."""
        by_rule = line.get("outcome_by_rule", line["outcome"])
        is_open = line["problem_type"] in OPEN and by_rule in JUDGED
        is_judged = line.get("judged_by") == self.name and line.get("judge_prompt", self._hash) == self._hash
        return (is_open or by_rule == Outcome.UNPARSABLE) and bool(line["output"]) and not is_judged

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
        text = MARKER.sub(r"[\1]", text)  # of media, which the judge is not shown
        question = VideoQuestion(line["id"], text, "free-form", line["answer"], ())
        return Ask(Item(line["id"], Asked(line["answer"]), ()), question, 2, self.sampling, question.seed(self.name))

    def _judged(self, line: Line, answered: Answered) -> Line:
        by_rule = _as_the_rule_left_it(line)
        if answered.cost is not None:
            by_rule["cost"] = (line["cost"] or 0.0) + answered.cost
        if answered.outcome == Outcome.FAILED:
            return by_rule | {"reason": answered.reason}
        judged = by_rule | {
            "judged_by": self.name,
            "judge_prompt": self._hash,
            "outcome_by_rule": by_rule["outcome"],
            "score_by_rule": by_rule["score"],
        }
        found = VERDICT.search(answered.replies[0].text) if answered.replies else None
        if found is None:
            return judged | {"reason": answered.reason or "the judge says neither yes nor no"}
        is_right = found.group(1).lower() == "yes"
        outcome = Outcome.RIGHT if is_right else Outcome.WRONG
        return judged | {"outcome": outcome.value, "score": float(is_right), "reason": ""}


def _as_the_rule_left_it(line: Line) -> Line:
    """A line without what a judge has said of it. Lines of before 0.2 do not tell the rule's score."""
    if "judged_by" not in line:
        return dict(line)
    left = {key: value for key, value in line.items() if key not in OF_A_JUDGE}
    return left | {"outcome": line["outcome_by_rule"], "score": line.get("score_by_rule", 0.0)}


def refuse_verdicts(folder: Path, lines: Iterable[Line]) -> None:
    """Raise ``ConfigError`` where a run without a judge would tell a judge's verdicts as those of its rule."""
    if names := sorted({line["judged_by"] for line in lines if "judged_by" in line}):
        raise ConfigError(
            f"{folder} holds items that {', '.join(names)} judged: give that judge again (judge=served "
            "judge.endpoint.model=…), or name=… for a folder of its own"
        )
