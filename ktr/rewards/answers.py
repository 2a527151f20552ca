"""Answers found in a completion's text.

Three rules of extraction are in use in the literature and they change the numbers, so the rule is always an option.
"""

import math
import re
import unicodedata
from typing import Literal

ExtractionRule = Literal["video_r1", "strict", "lenient"]

FIRST_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
INNERMOST_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
ANSWER_IS = re.compile(r"\banswer is:?\s+(.+?)\s*(?:\.\s|\n|$)", re.IGNORECASE)
LEADING_LETTER = re.compile(r"\(?([A-Z])(?:[.):]|$)")
PLAIN_SIGNS = str.maketrans("％－−＋．，", "%--+.,")
LETTER_FORMS = (re.compile(r"\(([A-Z])\)"), re.compile(r"^\s*([A-Z])[.):]", re.MULTILINE), re.compile(r"^([A-Z])$"))


def extract_answer(text: str, rule: ExtractionRule = "video_r1") -> str | None:
    """The answer that ``text`` gives, or None if it gives none.

    ``strict``: what stands between the first ``<answer>`` after the thinking and the next ``</answer>``, stripped. The
    first, for else a text could go through the options. ``video_r1``, as released: the first such pair anywhere, and
    the whole text where there is none. ``lenient``: after the thinking, the last pair that holds anything; else what
    follows the last "answer is"; else the one letter written as "(X)", as "X." at the start of a line, or alone. Where
    two letters are written that way there is no answer: the rule never guesses.
    """
    if rule == "lenient":
        return extract_leniently(after_thinking(text))
    tagged = FIRST_TAG.search(text if rule == "video_r1" else after_thinking(text))
    if tagged:
        return tagged.group(1).strip()
    return text.strip() if rule == "video_r1" else None


def after_thinking(text: str) -> str:
    """The text without thoughts: all that ``<think>`` opens, to its end where nothing closes it, and what stands before
    the first ``</think>`` where the prompt opened it."""
    if "</think>" in text.partition("<think>")[0]:
        text = text.partition("</think>")[2]
    return THOUGHT.sub("", text)


def extract_leniently(text: str) -> str | None:
    tagged = [answer.strip() for answer in INNERMOST_TAG.findall(text) if answer.strip()]
    if tagged:
        return tagged[-1]
    stated = ANSWER_IS.findall(text)
    if stated:
        letter = LEADING_LETTER.match(stated[-1])
        return letter.group(1) if letter else stated[-1].rstrip(".")
    for form in LETTER_FORMS:
        letters = set(form.findall(text.strip()))
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def parse_number(text: str) -> float | None:
    """A finite number, with commas as separators of thousands; None for anything else.

    Also a percentage (3.5 of "3.5%", see ``is_percentage``), full-width digits and signs, and one character as "½".
    """
    plain = text.strip().translate(PLAIN_SIGNS)
    if len(plain) == 1 and not plain.isdigit():
        return unicodedata.numeric(plain, None)
    digits = plain.removesuffix("%").replace(",", "")
    try:
        number = float(digits if "_" not in digits else "")  # Python reads 1_000
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_percentage(text: str) -> bool:
    """Whether a number is one of percent: 50% is neither 50 nor, as it is written, 0.5."""
    return text.strip().translate(PLAIN_SIGNS).endswith("%")
