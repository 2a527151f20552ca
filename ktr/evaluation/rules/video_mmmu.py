"""VideoMMMU: letters and numbers as MMMU's script reads them in a free text."""

import re
from collections.abc import Mapping

from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.official import bare
from ktr.evaluation.rules.outcome import NOTHING, Reading

SIGNS = (",", ".", "!", "?", ";", ":", "'")
BEFORE_A_RESULT = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def video_mmmu(reply: str, asked: Asked) -> Reading:
    """The letter or the number by the rules below; older copies of the script draw a letter at random, this one not."""
    text = bare(reply)
    if asked.problem_type == "multiple choice":
        letter = chosen_letter(text, asked.bodies)
        return Reading(letter, float(frozenset({letter}) == asked.right)) if letter else NOTHING
    return open_answer(text, asked.answer)


def chosen_letter(text: str, bodies: Mapping[str, str]) -> str | None:
    """Letters written "A." or "A:", else "(A)", else "A ", else options whose text is in a reply of over five words.

    Of several the one that stands last. "Sample A. It is B" is A, for a period is looked for first. A letter counts as
    a part of a word: "DNA " is A.
    """
    for sign in SIGNS:
        text = text.strip(sign)
    text = f" {text} "
    for forms in (("{}.", "{}:"), ("({})",), ("{} ",)):
        found = [(form, letter) for form in forms for letter in bodies if form.format(letter) in text]
        if found:
            form = " {} " if forms == ("{} ",) else found[0][0]
            letters = [letter for _, letter in found]
            return letters[0] if len(letters) == 1 else max(letters, key=lambda each: text.rfind(form.format(each)))
    lowered = text.lower()
    named = [letter for letter, body in bodies.items() if body and body.lower() in lowered]
    if named and len(text.split()) > 5:
        return max(named, key=lambda letter: lowered.rfind(bodies[letter].lower()))
    return None


def open_answer(text: str, answer: str) -> Reading:
    """Any number at the ends of the lines, behind words that announce a result, equals the answer to two places.

    So does a line's end that holds an answer that is a text. An empty reply leaves the script's denominator; here it is
    no answer.
    """
    ends = _ends(text)
    values = [_value(end) for end in ends]
    values += [_value(found) for end in ends for pattern in NUMBERS for found in pattern.findall(end)]
    numbers = [value for value in values if isinstance(value, float)]
    prediction = f"{numbers[-1]:g}" if numbers else ends[-1] if ends else None
    return Reading(prediction, float(any(_same(value, _value(answer)) for value in values)), stated=bool(numbers))


def _ends(text: str) -> list[str]:
    """Of each line the shortest end behind such a word; the whole text if no line has one.

    The script means to go by sentences, but looks for their capitals in lower case.
    """
    lines = text.strip().strip(".").lower().split("\n")
    ends: list[str] = []
    for place, line in enumerate(lines):
        words = (*BEFORE_A_RESULT, "=") if place == len(lines) - 1 else BEFORE_A_RESULT
        behind = [line.rsplit(word, 1)[1].strip() for word in words if word in line]
        shortest = min(behind, key=len, default="")
        if shortest and shortest not in SIGNS:
            ends.append(shortest)
    return ends or ([text.lower()] if text else [])


def _value(text: str) -> float | str:
    try:
        return round(float(text.strip().replace(",", "")), 2)
    except ValueError:
        return text.strip().lower()


def _same(value: float | str, truth: float | str) -> bool:
    if not isinstance(value, str) or not isinstance(truth, str):
        return value == truth
    return value == truth or (f" {truth}" in value or f"{truth} " in value if len(truth) == 1 else truth in value)
