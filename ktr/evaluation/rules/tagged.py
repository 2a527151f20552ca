"""The rules that any benchmark can be scored by: ``video_r1``, ``strict``, ``lenient``, ``partial``, ``tw_grpo``.

They differ in what they take for the answer, and the number with them (``ktr.rewards.answers``). None guesses.
"""

import re

from ktr.evaluation.rules.asked import Asked, named_options
from ktr.evaluation.rules.outcome import NOTHING, Reading
from ktr.rewards.answers import FIRST_TAG, INNERMOST_TAG, PLAIN_SIGNS, extract_answer, parse_number
from ktr.rewards.comparisons import (
    exact_match,
    folded_match,
    mean_relative_accuracy,
    numerical_match,
    rouge_mean,
    word_accuracy,
)
from ktr.rewards.soft_choice import options_in, soft_choice

COMPARISONS = {
    "multiple choice": exact_match,
    "numerical": numerical_match,
    "OCR": word_accuracy,
    "free-form": rouge_mean,
    "regression": mean_relative_accuracy,
}
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?")
ANSWER_LETTERS = re.compile(r"(?:answer|Answer|ANSWER)[:\s]+([A-Z](?:\s*,\s*[A-Z])*)")


def video_r1(reply: str, asked: Asked) -> Reading:
    """The first <answer>…</answer>, else the whole text; equality with the answer, numbers as Video-R1 compares them.

    Regression is mean relative accuracy with errors strictly below 1 - θ.
    """
    text = reply.strip()
    prediction = extract_answer(text, "video_r1") or ""
    if not prediction:
        return NOTHING
    is_short = prediction in asked.bodies or parse_number(prediction) is not None
    return Reading(prediction, _compared(prediction, asked), FIRST_TAG.search(text) is not None or is_short)


def strict(reply: str, asked: Asked) -> Reading:
    """As ``video_r1``, but no tag is no answer, and tags inside of the thinking are none: as the reward reads it."""
    prediction = extract_answer(reply, "strict")
    return Reading(prediction, _compared(prediction, asked)) if prediction else NOTHING


def lenient(reply: str, asked: Asked) -> Reading:
    """The last <answer>, else "answer is X", "(X)", "X.", a lone letter, or an option's own text.

    Thinking is left out, but where it never ends. Several letters without a word which is the answer are no answer.
    """
    text = reply.strip()
    prediction = extract_answer(text, "lenient")
    if prediction is None and "</think>" not in text:  # an answer was given inside of a thought that nothing closed
        tagged = [answer.strip() for answer in INNERMOST_TAG.findall(text) if answer.strip()]
        prediction = tagged[-1] if tagged else None
    if asked.problem_type == "multiple choice" and (asked.right or asked.options):
        named = named_options(prediction or text, asked.bodies, whole=prediction is None)
        return Reading(",".join(named), _same_options(named, asked)) if named else NOTHING
    prediction = text if prediction is None else prediction
    if asked.problem_type == "multiple choice":  # of a record that has a text as its answer, and no options
        return Reading(prediction, max((folded_match(prediction, text) for text in asked.accepted), default=0.0))
    if asked.problem_type in ("numerical", "regression") and parse_number(prediction) is None:
        numbers = {found.group().rstrip(".,") for found in NUMBER.finditer(prediction.translate(PLAIN_SIGNS))}
        if len(numbers) != 1:
            return NOTHING
        prediction = numbers.pop()
    return Reading(prediction, _compared(prediction, asked)) if prediction else NOTHING


def partial(reply: str, asked: Asked) -> Reading:
    """As ``video_r1``, but a part of several right letters earns a part, and a wrong one among them loses all."""
    reading = video_r1(reply, asked)
    if reading.prediction is None or asked.problem_type != "multiple choice":
        return reading
    score = max((soft_choice(reading.prediction, text) for text in asked.accepted), default=0.0)
    stated = reading.stated or options_in(reading.prediction) <= asked.bodies.keys()
    return Reading(reading.prediction, score, stated)


def tw_grpo(reply: str, asked: Asked) -> Reading:
    """TW-GRPO's: the first tag, else the letters behind "answer:"; partial credit as ``partial``, spaces left out."""
    text = reply.strip()
    found = FIRST_TAG.search(text) or ANSWER_LETTERS.search(text)
    prediction = found.group(1).strip() if found else ""
    if not prediction:
        return NOTHING
    bare = prediction.replace(" ", "")
    score = max((soft_choice(bare, text.replace(" ", "")) for text in asked.accepted), default=0.0)
    return Reading(prediction, score)


def _compared(prediction: str, asked: Asked) -> float:
    if prediction in asked.accepted:  # also of one word, which has no ROUGE-2
        return 1.0
    compare = COMPARISONS[asked.problem_type]
    return max((compare(prediction, text) for text in asked.accepted), default=0.0)


def _same_options(named: tuple[str, ...], asked: Asked) -> float:
    """1 where the options named are the right ones; of options with equal texts any stands for all."""
    texts = [{asked.bodies[label] or label for label in labels} for labels in (named, asked.right)]
    return float(bool(asked.right) and texts[0] == texts[1])
