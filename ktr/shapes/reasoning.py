"""Reasoning as prose, with the role of every word.

A derivation lists the events in order ("first red one left . second blue two up .") and concludes ("so red one second
blue ."). Each step copies what follows a key that stands right before it and is unique in the text: an ordinal is
followed by its colour, a colour by its number, so that a small model can learn every step. Prose stands between the
steps, never inside one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ktr.shapes.observer import Observer
from ktr.shapes.questions import APPEARANCE_KINDS, LETTERS, TEMPORAL_KINDS, Question, candidates
from ktr.shapes.world import COLORS, DIRECTIONS, ORDINALS, Scene


class Role(StrEnum):
    """What a word of a completion depends on."""

    APPEARANCE = "appearance"  # what something looks like
    ORDER_MOTION = "order_motion"  # which event is the n-th, or where it moves
    DECISION = "decision"  # a choice of the writer: to go on or to stop, or a guess
    DERIVED = "derived"  # the text before it
    NOTHING = "nothing"  # prose


@dataclass(frozen=True)
class Word:
    text: str
    role: Role


OPENERS = ("let me watch .", "i watch the video carefully .", "step by step now .", "ok , in order .")
FILLERS = ("hmm", "ok", "well", "let me look", "note that", "let me check", "and now")
SEARCHES = ("i look for {} .", "let me find {} .", "where is {} ?")
CLOSERS = ("so", "thus")
CLOSER_SHARES = (0.8, 0.2)
NUMBERS = ("one", "two", "three", "four", "five", "six")
DIRECTED_KINDS = ("two_hop", "direction", "count")  # their derivations need to know where things move


def words(text: str, role: Role = Role.NOTHING) -> list[Word]:
    return [Word(word, role) for word in text.split()]


def _maybe(phrases: Sequence[str], rate: float, rng: np.random.Generator) -> list[Word]:
    return words(str(rng.choice(phrases))) if rng.random() < rate else []


def _list_events(question: Question, seen: Scene, filler: float, rng: np.random.Generator) -> list[Word]:
    trace, count = [], 0
    for index, event in enumerate(seen):
        # Every video has two events, so naming the first two is no decision; a third one may not exist.
        trace += _maybe(FILLERS, filler, rng)
        trace += words(ORDINALS[index], Role.DECISION if index >= 2 else Role.NOTHING)
        trace += words(event.color, Role.ORDER_MOTION)
        trace += words(NUMBERS[index], Role.DERIVED)
        if question.kind in DIRECTED_KINDS:
            trace += words(event.direction, Role.ORDER_MOTION)
        if question.kind == "count":
            count += event.direction == question.target
            trace += words(str(count), Role.DERIVED)
        trace += words(".")
    return trace


def _conclude(question: Question, seen: Scene, rng: np.random.Generator) -> tuple[list[Word], str]:
    """The steps from the list of events to the answer word. What the list does not hold is guessed."""
    colors, target = [event.color for event in seen], question.target

    def color_at(index: int) -> Word:
        if index < len(seen):
            return Word(colors[index], Role.DERIVED)
        unseen = [color for color in COLORS if color not in colors and color != target]
        return Word(str(rng.choice(unseen)), Role.DECISION)

    def direction_at(index: int, role: Role) -> Word:
        return Word(seen[index].direction if index < len(seen) else str(rng.choice(list(DIRECTIONS))), role)

    if question.kind == "count":
        answer = Word(str(sum(event.direction == target for event in seen)), Role.DERIVED)
        return [answer], answer.text
    if question.kind == "nth":
        index = len(seen) - 1 if target == "last" else ORDINALS.index(target)
        keys = f"last {ORDINALS[index]}" if target == "last" else target
        steps = [*words(keys, Role.DERIVED), color_at(index)]
        return steps, steps[-1].text

    known = target in colors
    role = Role.DERIVED if known else Role.DECISION
    index = colors.index(target) if known else min(len(seen), len(ORDINALS) - 1)
    steps = [Word(target, Role.DERIVED), Word(NUMBERS[index], role)]
    if question.kind == "direction":
        steps += [direction_at(index, role)]
        return steps, steps[-1].text
    other = max(index - 1, 0) if question.kind == "before" else min(index + 1, len(ORDINALS) - 1)
    color = color_at(other)
    steps += [Word(ORDINALS[other], role), color if known else Word(color.text, role)]
    if question.kind == "two_hop":
        after_color = color.role if known else role
        steps += [Word(NUMBERS[other], after_color), direction_at(other, after_color)]
    return steps, steps[-1].text


def _letter(question: Question, answer_word: str, rng: np.random.Generator) -> Word:
    for letter, option in zip(LETTERS, question.options, strict=True):
        if option.endswith(f" {answer_word}"):
            return Word(letter, Role.DERIVED)
    return Word(str(rng.choice(LETTERS)), Role.DECISION)


def reason(question: Question, scene: Scene, observer: Observer, rng: np.random.Generator) -> tuple[list[Word], str]:
    """The observer's reasoning about a scene (the words between the think tags) and the answer that it reaches."""
    if rng.random() < observer.direct:
        return [], question.answer
    seen = observer.watch(scene, question.kind, rng)
    if question.kind in APPEARANCE_KINDS:
        asked, named = question.kind, "color" if question.kind == "shape" else "shape"
        event = next(event for event in seen if getattr(event, named) == question.target)
        answer = getattr(event, asked)
        trace = _maybe(FILLERS, observer.filler, rng)
        trace += words(str(rng.choice(SEARCHES)).format(question.target)) + _maybe(FILLERS, observer.filler, rng)
        trace += words(question.target) + words(answer, Role.APPEARANCE)
    else:
        trace = _maybe(OPENERS, observer.filler, rng) + _list_events(question, seen, observer.filler, rng)
        trace += _maybe(FILLERS, observer.filler, rng) + words(str(rng.choice(CLOSERS, p=CLOSER_SHARES)), Role.DECISION)
        steps, answer = _conclude(question, seen, rng)
        trace += steps
    if question.options:
        letter = _letter(question, answer, rng)
        trace, answer = [*trace, letter], letter.text
    return trace + words("."), answer


def answer_role(question: Question, trace: Sequence[Word]) -> Role:
    """The answer copies what the reasoning found; without reasoning it must come from the video."""
    if trace:
        return Role.DERIVED
    return Role.ORDER_MOTION if question.kind in TEMPORAL_KINDS else Role.APPEARANCE


def vocabulary() -> list[str]:
    """Every word that a trace or an answer may hold."""
    phrases = " ".join((*OPENERS, *FILLERS, *SEARCHES, *CLOSERS)).replace("{}", "")
    found = [*COLORS, *DIRECTIONS, *ORDINALS, *NUMBERS, *candidates("shape", ""), *candidates("count", ""), *LETTERS]
    return list(dict.fromkeys([*found, "last", ".", *phrases.split()]))
