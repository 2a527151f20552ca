"""Accuracy of the final answer, by the problem type's rule."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import UnknownProblemType, UnreadableAnswer
from ktr.rewards.answers import ExtractionRule, extract_answer
from ktr.rewards.comparisons import (
    exact_match,
    folded_match,
    mean_relative_accuracy,
    numerical_match,
    relative_closeness,
    rouge_mean,
    word_accuracy,
)
from ktr.rewards.soft_choice import soft_choice
from ktr.types import RolloutGroup, VideoQuestion


class Accuracy:
    """Scores each completion's answer in [0, 1] by the rule of its question's problem type (Video-R1, 2503.21776).

    | multiple choice | ``multiple_choice="exact"``: equality; "soft": the share of several answers (``soft_choice``) |
    | numerical       | equality after rounding to 2 places, if both or neither hold "." or "," |
    | OCR             | 1 - word error rate, clipped |
    | free-form       | ``free_form="rouge"``: mean F-measure of ROUGE-1, -2, -L (``rouge_words``); "exact": equality |
    | regression      | ``regression="relative"``: clip(1 - relative difference); "mra": mean relative accuracy |

    ROUGE-2 of a single word is 0, so a right one-word answer gets 2/3 under "rouge"; "exact" compares after Unicode
    and case folding, without outer punctuation and repeated spaces. ``extraction`` decides what counts as the answer.
    """

    name = "accuracy"

    def __init__(
        self,
        extraction: ExtractionRule = "strict",
        free_form: Literal["rouge", "exact"] = "rouge",
        regression: Literal["relative", "mra"] = "relative",
        multiple_choice: Literal["exact", "soft"] = "exact",
    ) -> None:
        self.extraction: ExtractionRule = extraction
        self.rules = {
            "multiple choice": {"exact": exact_match, "soft": soft_choice}[multiple_choice],
            "numerical": numerical_match,
            "OCR": word_accuracy,
            "free-form": {"rouge": rouge_mean, "exact": folded_match}[free_form],
            "regression": {"relative": relative_closeness, "mra": mean_relative_accuracy}[regression],
        }

    def __call__(self, group: RolloutGroup) -> Float[Tensor, " G"]:
        """Accuracy of each completion of a group. Raises ``UnknownProblemType``."""
        return torch.tensor([self.score(completion.text, group.question) for completion in group.completions])

    def check(self, question: VideoQuestion) -> None:
        """Raises ``UnreadableAnswer`` where the question's own answer scores nothing, so that no completion can."""
        if not self.score(f"<think>…</think><answer>{question.answer}</answer>", question) > 0:
            reason = f"the answer {question.answer!r} of a {question.problem_type} problem scores 0 against itself"
            raise UnreadableAnswer(question.source, question.id, reason)

    def score(self, text: str, question: VideoQuestion) -> float:
        """Accuracy of one text; no answer scores 0."""
        if question.problem_type not in self.rules:
            reason = f"no accuracy rule for problem_type {question.problem_type!r}; known: {', '.join(self.rules)}"
            raise UnknownProblemType(question.source, question.id, reason)
        answer = extract_answer(text, self.extraction)
        return self.rules[question.problem_type](answer, question.answer.strip()) if answer else 0.0
