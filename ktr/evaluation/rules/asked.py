"""What a rule knows of a question: its options, with the letters or labels that name them, and its answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ktr.rewards.comparisons import fold

ProblemType = Literal["multiple choice", "numerical", "OCR", "free-form", "regression"]
# "A. red", "(A) red", "A: red", "Option 1: red", "Caption A: red": a label, and the option's text.
LABEL = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])\s?[.):]|((?:Option|Caption|Sentence)\s\w+)\s?[.):])\s*", re.ASCII)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
AROUND = " \t\n()[]{}*\"'`.:"  # "(B)", "[B]", "**B**", "B."
BEFORE_A_LABEL = re.compile(r"^(?:option|choice|answer)\s+", re.IGNORECASE)
BETWEEN_ANSWERS = re.compile(r"\s*(?:,|;|&|\band\b)\s*")


@dataclass(frozen=True)
class Asked:
    """A question as a rule sees it.

    ``answer`` is the letter of a multiple choice ("B,C" where several are right), else a number or a text. ``written``
    is the answer as the benchmark's own file has it, where that differs: "C. running", or "running".
    """

    answer: str
    problem_type: ProblemType = "multiple choice"
    options: tuple[str, ...] = ()
    written: str = ""
    question: str = ""

    @cached_property
    def bodies(self) -> Mapping[str, str]:
        """The options' texts by label; of a record that lacks its options all letters, without texts."""
        return labelled(self.options) if self.options else dict.fromkeys(LETTERS, "")

    @cached_property
    def right(self) -> frozenset[str]:
        """The labels of the right options; empty where the answer is none of them."""
        return frozenset(named_options(self.answer, self.bodies) or named_options(self.written, self.bodies))

    @cached_property
    def accepted(self) -> tuple[str, ...]:
        """The texts that equal the answer: itself, the letters of the right options, and as it is written."""
        letters = ",".join(sorted(self.right)) if self.problem_type == "multiple choice" else ""
        return tuple(dict.fromkeys(text for text in (self.answer.strip(), letters, self.written.strip()) if text))


def labelled(options: Sequence[str]) -> dict[str, str]:
    """Options by label: their own where all have one and each another, else letters in their order."""
    found = [LABEL.match(option) for option in options]
    labels = [next(filter(None, match.groups())) for match in found if match]
    if len(labels) == len(options) and len(set(labels)) == len(labels):
        return {label: match.string[match.end() :].strip() for label, match in zip(labels, found) if match}
    return {label_of(place): option.strip() for place, option in enumerate(options)}


def label_of(place: int) -> str:
    """A to Z, and AA, AB, … for an option behind those."""
    before, letter = divmod(place, len(LETTERS))
    return (label_of(before - 1) if before else "") + LETTERS[letter]


def named_options(text: str, bodies: Mapping[str, str], whole: bool = False) -> tuple[str, ...]:
    """The labels of the options that a short text names, in order; () where it names none, or cannot be told.

    It is read as labels ("B", "(B), (C)", "option B"), then as an option's own text, then as what starts with a label
    ("B. red"), which must be a ``whole`` option where that is asked for. Two options with equal texts are both named,
    for which of them is meant makes no difference.
    """
    text = text.strip()
    if labels := _as_labels(text, bodies):
        return labels
    folded = fold(text)
    if folded and (equal := tuple(label for label, body in bodies.items() if fold(body) == folded)):
        return equal
    if (match := LABEL.match(text)) and (label := next(filter(None, match.groups()))) in bodies:
        return () if whole and fold(text[match.end() :]) != fold(bodies[label]) else (label,)
    return ()


def _as_labels(text: str, bodies: Mapping[str, str]) -> tuple[str, ...]:
    short = {label.rpartition(" ")[2]: label for label in bodies}  # "Caption A" is also called "A"
    parts = [part.strip(AROUND) for part in BETWEEN_ANSWERS.split(text) if part]
    labels = [part if part in bodies else short.get(BEFORE_A_LABEL.sub("", part).strip(AROUND)) for part in parts]
    return tuple(dict.fromkeys(label for label in labels if label)) if all(labels) else ()
