r"""Question-answer inversion (TW-GRPO, arXiv 2505.24718): more questions with several right answers.

With probability p a multiple choice question is negated ("What did …?" becomes "What didn't …?") and all the options
that were wrong become its answer, by their letters with commas between them.

A question stays as it is where negating one word would not turn right options into wrong ones and wrong into right:

- it is not multiple choice, or each of its options is right;
- the verb to negate cannot be told: the last sentence does not open, at once or after one clause and a comma, with a
  question word that an auxiliary verb follows in the same clause;
- it asks for yes or no ("Isn't it red?" has the answer of "Is it red?"), how, how many or why;
- it is negated already.

Assumption: an option that is not the answer is wrong, not just worse, so that it answers the negated question.
"""

import re
from dataclasses import replace

from ktr.errors import ConfigError
from ktr.rewards.soft_choice import options_in
from ktr.types import VideoQuestion

NEGATED = {
    "is": "isn't", "are": "aren't", "was": "wasn't", "were": "weren't", "do": "don't", "does": "doesn't",
    "did": "didn't", "has": "hasn't", "have": "haven't", "had": "hadn't", "will": "won't", "would": "wouldn't",
    "can": "can't", "could": "couldn't", "should": "shouldn't", "must": "mustn't",
}  # fmt: skip
_AUXILIARY = "|".join(NEGATED)
_SAME_CLAUSE = r"(?:\s+(?!(?:that|which|who|whose|if|when|while|where|because|as)\b)[\w'-]+)*?"
_VERB = re.compile(
    r"(?:(?!why|how|what|which|who)[^,]*,\s*)??"  # "If the cube is removed, …"
    rf"(?:(?:what|which|who|whom|whose){_SAME_CLAUSE}|when|where)\s+(?P<verb>{_AUXILIARY})\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|never|no|none|neither|nor|except)\b|n't\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Inversion:
    """Inverts a question with ``probability``; its id and ``seed`` alone decide, so each epoch asks it alike."""

    def __init__(self, probability: float = 0.5, seed: int = 0) -> None:
        if not 0 <= probability <= 1:
            raise ConfigError(f"probability={probability}: the share of inverted questions lies in [0, 1]")
        self.probability, self.seed = probability, seed

    def __call__(self, question: VideoQuestion) -> VideoQuestion:
        """The question, inverted where it is chosen and can be. An inverted one has no written reasoning."""
        draw = question.seed(self.seed, "inversion") / 2**32
        return (inverted(question) or question) if draw < self.probability else question


def inverted(question: VideoQuestion) -> VideoQuestion | None:
    """The negated question with the wrong options as its answer; None where it cannot be inverted."""
    if question.problem_type != "multiple choice":
        return None
    letters = [option.strip(" (")[0] for option in question.options]
    wrong = [letter for letter in letters if letter not in options_in(question.answer)]
    problem = negated(question.problem)
    if problem is None or not wrong:
        return None
    return replace(question, problem=problem, answer=",".join(wrong), reasoning=None)


def negated(problem: str) -> str | None:
    """The text with the verb of its last sentence negated; None where that verb cannot be told."""
    ends = [match.end() for match in _SENTENCE_END.finditer(problem)]
    start = ends[-1] if ends else 0
    before, sentence = problem[:start], problem[start:]
    found = _VERB.match(sentence)
    if found is None or _NEGATION.search(sentence):
        return None
    verb, (first, last) = found["verb"], found.span("verb")
    negative = NEGATED[verb.lower()]
    return before + sentence[:first] + (negative.capitalize() if verb[0].isupper() else negative) + sentence[last:]
