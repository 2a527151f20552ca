"""How an answer is compared with the truth, by the kind of answer: a number in [0, 1]. Pure functions of two texts."""

import re
import unicodedata

from ktr.rewards.answers import PLAIN_SIGNS, is_percentage, parse_number


def exact_match(answer: str, truth: str) -> float:
    """Equality, but for spaces around the commas between several answers: "A, C" is "A,C"."""
    named, right = ([part.strip() for part in text.split(",")] for text in (answer, truth))
    return float(named == right)


def numerical_match(answer: str, truth: str) -> float:
    number, true_number = parse_number(answer), parse_number(truth)
    if number is None or true_number is None or is_percentage(answer) != is_percentage(truth):
        return 0.0
    has_sign = [bool(re.search("[.,]", text.translate(PLAIN_SIGNS))) for text in (answer, truth)]
    if has_sign[0] != has_sign[1]:
        return 0.0
    return float(round(number, 2) == round(true_number, 2))


def word_accuracy(answer: str, truth: str) -> float:
    """1 - WER, at least 0: inserted words can make more errors than the truth has words. A new line parts words too."""
    import jiwer

    truth, answer = (" ".join(text.split()) for text in (truth, answer))  # jiwer knows no other spaces
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
