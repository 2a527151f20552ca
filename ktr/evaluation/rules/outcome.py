"""What became of an item: exactly one outcome, and none of them leaves the denominator unsaid."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ktr.evaluation.rules.asked import Asked

REFUSAL = re.compile(
    r"\b(?:i(?:'|’)?m (?:really |very |so )?sorry|i am sorry|i apologi[sz]e|as an ai\b|against my (?:guidelines|policy)"
    r"|i (?:cannot|can(?:'|’)?t|can not|am unable to|(?:'|’)m unable to|am not able to|won(?:'|’)?t|must decline to)"
    r" (?:help|assist|answer|view|see|watch|access|comply|provide|process|analy[sz]e|identify|determine))",
    re.IGNORECASE,
)


class Outcome(StrEnum):
    """``RIGHT`` is full marks. The last four say why there is no answer that could be right or wrong."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSABLE = "unparsable"  # no answer can be read in the reply
    REFUSED = "refused"  # nor can it, and the reply says that it declines
    CUT_OFF = "cut_off"  # nor can it, and the reply ended at its longest length
    FAILED = "failed"  # there is no reply: the engine failed
    MEDIA_MISSING = "media_missing"  # nothing was asked: a file is not there, or cannot be read


WITHOUT_REPLY = (Outcome.FAILED, Outcome.MEDIA_MISSING)


@dataclass(frozen=True)
class Reading:
    """What a rule reads in a reply: ``prediction``, None where it finds none, and its ``score`` from 0 to 1.

    ``stated`` is False where the prediction is only what was left over, such as the whole text.
    """

    prediction: str | None
    score: float = 0.0
    stated: bool = True


Rule = Callable[[str, Asked], Reading]
NOTHING = Reading(None, 0.0, stated=False)


@dataclass(frozen=True)
class Judgement:
    """One item's prediction, outcome and score; the score of what is neither right nor wrong is 0."""

    prediction: str | None
    outcome: Outcome
    score: float


def judge(rule: Rule, reply: str, asked: Asked, cut_off: bool = False) -> Judgement:
    """The judgement on a reply; ``cut_off`` says that it ended at its longest length. Never raises for a text."""
    text = reply.strip()
    reading = rule(text, asked) if text else NOTHING
    if reading.score >= 1:
        return Judgement(reading.prediction, Outcome.RIGHT, 1.0)
    if reading.score > 0 or (reading.prediction is not None and reading.stated):
        return Judgement(reading.prediction, Outcome.WRONG, reading.score)
    outcome = Outcome.REFUSED if REFUSAL.search(text) else Outcome.CUT_OFF if cut_off else Outcome.UNPARSABLE
    return Judgement(reading.prediction, outcome, 0.0)
