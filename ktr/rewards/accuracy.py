"""Accuracy of the final answer, by the problem type's rule."""

import re
import unicodedata
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ktr.errors import UnknownProblemType, UnreadableAnswer
from ktr.rewards.answers import ExtractionRule, extract_answer, is_percentage, parse_number
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


def exact_match(answer: str, truth: str) -> float:
    """Equality, but for spaces around the commas between several answers: "A, C" is "A,C"."""
    named, right = ([part.strip() for part in text.split(",")] for text in (answer, truth))
    return float(named == right)


def numerical_match(answer: str, truth: str) -> float:
    number, true_number = parse_number(answer), parse_number(truth)
    if number is None or true_number is None or is_percentage(answer) != is_percentage(truth):
        return 0.0
    if bool(re.search("[.,]", answer)) != bool(re.search("[.,]", truth)):
        return 0.0
    return float(round(number, 2) == round(true_number, 2))


def word_accuracy(answer: str, truth: str) -> float:
    """1 - WER, at least 0: inserted words can make more errors than the truth has words."""
    import jiwer

    return max(0.0, 1.0 - jiwer.wer(truth, answer))


def rouge_mean(answer: str, truth: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    from ktr.rewards.rouge_words import RougeWords

    scores = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=RougeWords()).score(truth, answer)
    return sum(score.fmeasure for score in scores.values()) / len(scores)


def folded_match(answer: str, truth: str) -> float:
    return float(fold(answer) == fold(truth))


def fold(text: str) -> str:
    """Case, spaces and outer punctuation aside, but where nothing else is there: "!" is not "?"."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(".,;:!?\"' ") or folded


def relative_difference(answer: str, truth: str) -> float:
    """|answer - truth| / |truth|; 0 for equal numbers also where the truth is 0, infinity for what is no number."""
    number, true_number = parse_number(answer), parse_number(truth)
    if number is None or true_number is None or is_percentage(answer) != is_percentage(truth):
        return float("inf")
    if number == true_number:
        return 0.0
    return abs(number - true_number) / abs(true_number) if true_number else float("inf")


def relative_closeness(answer: str, truth: str) -> float:
    return max(0.0, 1.0 - relative_difference(answer, truth))


def mean_relative_accuracy(answer: str, truth: str) -> float:
    """The share of thresholds θ in .50:.05:.95 with a relative difference below 1 - θ (VSI-Bench, 2412.14171)."""
    difference = relative_difference(answer, truth)
    return sum(difference < (100 - percent) / 100 for percent in range(50, 100, 5)) / 10
