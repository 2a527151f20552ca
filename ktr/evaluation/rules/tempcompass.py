"""TempCompass: a rule for each of its four tasks. The chat model that its scripts ask where none applies is off."""

import re
from collections.abc import Sequence

from ktr.evaluation.rules.asked import Asked
from ktr.evaluation.rules.official import bare
from ktr.evaluation.rules.outcome import NOTHING, Reading

TASKS = ("multi-choice", "yes_no", "caption_matching", "captioning")
AN_OPTION = re.compile(r"(?:[A-Z]\.|(?:Option|Caption|Sentence)\s\w+:)\s")


def task_of(question: str, answer: str, options: Sequence[str] = ()) -> str:
    """Which of the four tasks a row is of, by its text: rows put together from its files do not say so."""
    if "Generated Caption:" in question or re.search(r"^Information [A-Z]:", question, re.MULTILINE):
        return "captioning"
    if re.match(r"(?:[A-Z][.)]\s*)?(?:yes|no)\b", answer.strip(), re.IGNORECASE) and not options:
        return "yes_no"
    texts = [option.strip() for option in options] or [line.strip() for line in question.split("\n")[1:]]
    bodies = {re.sub(r"^\(?[A-Z][.):]\s*", "", text).strip(". ").lower() for text in texts}
    if options and bodies == {"yes", "no"}:
        return "yes_no"
    if any(re.match(r"(?:[A-Z][.)]\s*)?(?:Option|Caption|Sentence)\s\w+:", text) for text in texts):
        return "caption_matching"
    return "multi-choice"


def split_question(question: str) -> tuple[str, tuple[str, ...]]:
    """The question's own lines and the options that stand below it."""
    lines = question.split("\n")
    first = next((place for place, line in enumerate(lines) if place and AN_OPTION.match(line)), len(lines))
    options = tuple(line for line in lines[first:] if line.strip())
    if not all(AN_OPTION.match(option) for option in options):
        return question, ()
    return "\n".join(lines[:first]), options


def tempcompass(reply: str, asked: Asked) -> Reading:
    """By task; see the functions below. Captions can be judged by a chat model alone, and are no answers here."""
    text = bare(reply).replace("</s>", "").strip()
    written = asked.written or asked.answer
    match task_of(asked.question, written, asked.options):
        case "captioning":
            return Reading(text or None, 0.0, stated=False)
        case "yes_no":
            return yes_no(text, asked, written)
        case "caption_matching":
            return caption_matching(text, asked, written)
    return multi_choice(text, asked, written)


def multi_choice(text: str, asked: Asked, written: str) -> Reading:
    """The answer as it is written, one of A to D alone, or what starts with "A." or "A)"; nothing else."""
    if text in (written, asked.answer):
        return Reading(text, 1.0)
    letter = text[:1]
    if letter and letter in "ABCD" and (len(text) == 1 or text[1] in ".)"):
        return Reading(letter, float(frozenset({letter}) == asked.right))
    return NOTHING


def yes_no(text: str, asked: Asked, written: str) -> Reading:
    """The text starts with yes or no, in any case: "Not sure" is a no, and "The answer is yes" is no answer."""
    word = next((word for word in ("yes", "no") if text.lower().startswith(word)), None)
    if word is None:  # rows that were made a multiple choice: a letter
        return multi_choice(text, asked, written) if asked.options else NOTHING
    truths = {written.lower()} | {asked.bodies[label].lower() for label in asked.right if asked.options}
    return Reading(word, float(any(re.match(rf"(?:[a-z][.)]\s*)?{word}\b", truth) for truth in truths)))


def caption_matching(text: str, asked: Asked, written: str) -> Reading:
    """An option as a whole, its sentence (also behind ") "), or its label, also without its word: "Option 1" or "1".

    All by equality, but for periods of a label. Of two options that fit the one that is last wins.
    """
    named = None
    behind = text.split(") ")[1] if ") " in text else text
    parts = [_option(option) for option in asked.options]
    for whole, _, sentence in parts:
        if text == whole or sentence in (text, behind):
            named = whole
    for whole, label, _ in parts:
        if text.replace(".", "") in (label, label.rpartition(" ")[2]):
            named = whole
    if named is None:
        return NOTHING
    truth = _option(written)
    right = {option for option, label, sentence in parts if label == truth[1] or sentence == truth[2]}
    return Reading(named, float(named in right))


def _option(text: str) -> tuple[str, str, str]:
    """An option as a whole, its label and its sentence."""
    text = re.sub(r"^\(?[A-Z][.)]\s*(?=(?:Option|Caption|Sentence)\s)", "", text.strip())
    label, _, sentence = text.partition(": ")
    return text, label.strip(), sentence.strip()
