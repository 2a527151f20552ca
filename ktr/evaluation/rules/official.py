"""The rules of the benchmarks' own scripts, with their quirks: a number by them compares with published ones.

Each docstring says the quirks. Where a script expects a bare reply, what stands in the first answer tag is
taken. What a script draws at random, or asks a chat model, is no answer here.
"""

import math
import re

import numpy as np

from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.outcome import NOTHING, Reading
from ktr.rewards.answers import FIRST_TAG

LAST_TAG = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
VIDEOMME_PHRASES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is",
    "The correct option is", "Best answer:Best option:",
)  # fmt: skip
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def bare(reply: str) -> str:
    """The inside of the first answer tag, or the whole reply."""
    found = FIRST_TAG.search(reply)
    return (found.group(1) if found else reply).strip()


def video_holmes(reply: str, asked: Asked) -> Reading:
    """Video-Holmes: the first letter from A to F that is in the last tag, or in the whole text where there is none.

    A letter counts before all others where "A ", "A:" or "[A" is in the text, whatever it belongs to: "F. Plan B fails"
    is read as B, and "D. CCTV" as C. About a tenth of right answers with the option's text are judged wrong so.
    """
    found = LAST_TAG.findall(reply)
    text = found[-1].strip() if found else reply
    for forms in (("{} ", "{}:", "[{}"), ("{}",)):
        for letter in "ABCDEF":
            if any(form.format(letter) in text for form in forms):
                return _letter(letter, asked)
    return NOTHING


def videomme(reply: str, asked: Asked) -> Reading:
    """Video-MME: some phrases are taken out, then the first capital A to D anywhere is the answer.

    "A man says C" is A. "Best answer: D" is B, for two phrases of the
    script ran together and are never found. What is no answer leaves its denominator (metric ``answered``).
    """
    text = bare(reply)
    for phrase in VIDEOMME_PHRASES:
        text = text.replace(phrase, "")
    found = re.search("[ABCD]", text)
    return _letter(found.group(), asked) if found else NOTHING


def mvbench(reply: str, asked: Asked) -> Reading:
    """MVBench: the first word, in lower case and without periods, is a part of "(c)", or "(c)" is a part of it.

    "C", "c.", "(C)" and also "(" are right. An empty reply is right in the script, and no answer here. The word of a
    text, as in "Piling something up", is wrong.
    """
    word = bare(reply).lower().split(" ")[0]
    right = {f"({label.lower()})" for label in asked.right}
    score = any(word.replace(".", "") in option or option in word for option in right)
    return Reading(word, float(score)) if word else NOTHING


def vsi_bench(reply: str, asked: Asked) -> Reading:
    """VSI-Bench: the first word without its last period; a letter by equality, a number by mean relative accuracy.

    That has errors of at most 1 - θ, where Video-R1's has those below. What is no number scores 0.
    """
    word = bare(reply).split(" ")[0].rstrip(".").strip()
    if asked.problem_type == "multiple choice":
        right = {text.lower() for text in asked.accepted}
        return Reading(word, float(word.lower() in right)) if word else NOTHING
    try:
        number, truth = float(word), float(asked.answer)
    except ValueError:
        return NOTHING
    if math.isnan(number):
        return NOTHING
    error = abs(number - truth) / abs(truth) if truth else (0.0 if number == 0 else math.inf)
    return Reading(word, float((error <= 1 - THRESHOLDS).mean()))


def _letter(letter: str, asked: Asked) -> Reading:
    return Reading(letter, float(frozenset({letter}) == asked.right))
