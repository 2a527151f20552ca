"""Items in, lines out: which question is asked next, and what is made of its answers."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ktr.data.prompts import PromptTemplate
from ktr.evaluation.asking.ask import Answered, Answerer, Ask
from ktr.evaluation.asking.decoding import Decoding, Given, Round, vote
from ktr.evaluation.asking.identity import hash_of
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.rules.outcome import Judgement, Outcome, Rule, judge
from ktr.record.token_records import media_entries
from ktr.types import VideoQuestion

QuestionOf = Callable[[Item], VideoQuestion]


@dataclass
class _Open:
    """An item that is being asked."""

    item: Item
    question: VideoQuestion
    answers: list[Answered] = field(default_factory=list)  # of the rounds that have replies
    given: list[Given] = field(default_factory=list)


class Asking:
    """Asks items of a benchmark and judges the answers by ``rule``.

    ``question_of`` makes an item's question, which the prompt of ``template`` is about; ``decoding`` says how often and
    with how many frames it is asked. ``seed``, the round and the item fix every draw.
    """

    def __init__(
        self,
        items: Sequence[Item],
        question_of: QuestionOf,
        template: PromptTemplate,
        decoding: Decoding,
        rule: Rule,
        seed: int,
    ) -> None:
        self.question_of, self.template, self.decoding = question_of, template, decoding
        self.rule, self.seed = rule, seed
        self._waiting = deque(items)
        self._again: deque[Ask] = deque()
        self._open: dict[str, _Open] = {}

    def lines(self, answerer: Answerer) -> Iterator[Line]:
        """One line an item, as it ends."""
        for answered in answerer.answers(self._take):
            item = self._open[answered.ask.item.id]
            further = self._further(item, answered)
            if further is None:
                del self._open[item.item.id]
                yield self._line(item, answered)
            else:
                self._again.append(self._ask(item, further))

    def _take(self) -> Ask | None:
        if self._again:
            return self._again.popleft()
        if not self._waiting:
            return None
        item = self._waiting.popleft()
        opened = self._open[item.id] = _Open(item, self.question_of(item))
        first = self.decoding.next(())
        assert first is not None, "a decoding asks at least once"
        return self._ask(opened, first)

    def _ask(self, opened: _Open, round: Round) -> Ask:
        seed = opened.question.seed(self.seed, len(opened.given))
        return Ask(opened.item, opened.question, round.num_frames, round.sampling, seed)

    def _further(self, opened: _Open, answered: Answered) -> Round | None:
        if not answered.replies:
            return None
        predictions = tuple(self.rule(reply.text, opened.item.asked).prediction for reply in answered.replies)
        opened.answers.append(answered)
        opened.given.append(Given(predictions, max(answered.num_frames, default=0)))
        return self.decoding.next(opened.given)

    def _line(self, opened: _Open, last: Answered) -> Line:
        """An item's line. A later round that failed leaves the one before it to decide."""
        item, asked = opened.item, opened.item.asked
        decided = opened.answers[-1] if opened.answers else last
        all_asked = [*opened.answers, *([] if last.replies else [last])]
        if decided.replies:
            reply = decided.replies[vote(opened.given[-1].predictions)]
            text, reason = reply.text, "length" if reply.cut_off else "stop"
            judgement = judge(self.rule, text, asked, reply.cut_off)
        else:
            text, reason = None, None
            judgement = Judgement(None, decided.outcome or Outcome.FAILED, 0.0)
        costs = [each.cost for each in all_asked if each.cost is not None]
        line = about(item, opened.question) | {
            "prompt": hash_of(self.template.messages(opened.question)),
            "num_frames": list(decided.num_frames),
            "output": text,
            "finish_reason": reason,
            "prediction": judgement.prediction,
            "outcome": judgement.outcome.value,
            "score": judgement.score,
            "reason": last.reason,
            "seconds": round(sum(each.seconds for each in all_asked), 4),
            "prompt_tokens": sum(each.prompt_tokens for each in all_asked),
            "completion_tokens": sum(each.completion_tokens for each in all_asked),
            "cost": sum(costs) if costs else None,
        }
        if any(len(given.predictions) > 1 for given in opened.given) or len(opened.given) > 1:
            line["rounds"] = [
                {
                    "num_frames": given.num_frames,
                    "predictions": given.predictions,
                    "outputs": [r.text for r in a.replies],
                }
                for given, a in zip(opened.given, opened.answers, strict=True)
            ]
        return line


def missing_line(item: Item, path: str) -> Line:
    """The line of an item that was not asked, for a file of its media is not there."""
    judgement = {"output": None, "prediction": None, "outcome": Outcome.MEDIA_MISSING.value, "score": 0.0}
    return about(item) | judgement | {"reason": f"{path} is not there"}


def about(item: Item, question: VideoQuestion | None = None) -> dict[str, Any]:
    """What a line says of its item, in the words that ``rescore`` reads."""
    asked = item.asked
    return {
        "id": item.id,
        "subtask": item.subtask,
        "groups": dict(item.groups),
        "video": item.video,
        **({} if question is None else media_entries(question)),
        "start": item.start,
        "end": item.end,
        "problem_type": asked.problem_type,
        "question": asked.question,
        "options": list(asked.options),
        "answer": asked.answer,
        "written": asked.written,
    }
