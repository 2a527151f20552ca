"""Reasoning as prose, with the role of every word.

A derivation lists the events in order and notes where it meets what the question names ("first blue . second red here
second . third white ."); then it concludes ("so here second third white ."). Each step copies what follows a key that
stands right before it and is unique in the text: "here" is followed by an ordinal, an ordinal by its colour, a colour
by its direction, so that a small model can learn every step. Prose stands between the steps, never inside one; an
observer may be so talkative that most of the text is prose (``ktr/shapes/prose.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ktr.shapes.observer import Observer
from ktr.shapes.prose import prose
from ktr.shapes.questions import APPEARANCE_KINDS, LETTERS, MAX_COUNT, Question, candidates
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
HERE = "here"  # said where the list meets the colour that the question names
DIRECTED_KINDS = ("two_hop", "direction", "count")  # their derivations need to know where things move
LOCATED_KINDS = ("before", "after", "two_hop", "direction")  # these start from a colour


def words(text: str, role: Role = Role.NOTHING) -> list[Word]:
    return [Word(word, role) for word in text.split()]


def _maybe(phrases: Sequence[str], rate: float, rng: np.random.Generator) -> list[Word]:
    return words(str(rng.choice(phrases))) if rng.random() < rate else []


def _pause(observer: Observer, rng: np.random.Generator) -> list[Word]:
    """What the observer writes between two steps."""
    return _maybe(FILLERS, observer.filler, rng) + words(prose(observer.prose, rng))


def _list_events(question: Question, seen: Scene, observer: Observer, rng: np.random.Generator) -> list[Word]:
    trace, count, located = [], 0, question.kind not in LOCATED_KINDS
    for index, event in enumerate(seen):
        trace += _pause(observer, rng)
        # Every video has two events, so naming the first two is no decision; a third one may not exist.
        trace += words(ORDINALS[index], Role.DECISION if index >= 2 else Role.NOTHING)
        trace += words(event.color, Role.ORDER_MOTION)
        if not located and event.color == question.target:
            located = True
            trace += words(HERE if question.kind == "direction" else f"{HERE} {ORDINALS[index]}", Role.DERIVED)
        if question.kind in DIRECTED_KINDS:
            trace += words(event.direction, Role.ORDER_MOTION)
        if question.kind == "count":
            count = min(count + (event.direction == question.target), MAX_COUNT)
            trace += words(str(count), Role.DERIVED)
        trace += words(".")
    return trace


def _conclude(question: Question, seen: Scene, rng: np.random.Generator) -> tuple[list[Word], str]:
    """The steps from the list of events to the answer word. What the list does not hold is guessed."""
    kind, target, colors = question.kind, question.target, [event.color for event in seen]
    if kind == "count":
        steps = words(str(min(sum(event.direction == target for event in seen), MAX_COUNT)), Role.DERIVED)
    elif kind == "nth":
        index = len(seen) - 1 if target == "last" else ORDINALS.index(target)
        keys = words(f"last {ORDINALS[index]}" if target == "last" else target, Role.DERIVED)
        steps = keys + _describe(seen, index, question, rng)
    elif target not in colors:
        steps = [] if kind == "direction" else words(ORDINALS[min(len(seen), len(ORDINALS) - 1)], Role.DECISION)
        steps += _describe(seen, len(seen), question, rng)
    else:
        here = colors.index(target)
        steps = words(HERE, Role.DERIVED)
        if kind == "direction":
            steps += words(seen[here].direction, Role.DERIVED)
        else:
            other = max(here - 1, 0) if kind == "before" else min(here + 1, len(ORDINALS) - 1)
            steps += words(f"{ORDINALS[here]} {ORDINALS[other]}", Role.DERIVED)
            steps += _describe(seen, other, question, rng)
    return steps, steps[-1].text


def _describe(seen: Scene, index: int, question: Question, rng: np.random.Generator) -> list[Word]:
    """Colour or direction, or both, of the event that the steps have come to."""
    if index < len(seen):
        color, direction, role = seen[index].color, seen[index].direction, Role.DERIVED
    else:
        unseen = set(COLORS) - {event.color for event in seen} - {question.target} or set(COLORS)
        color, direction, role = str(rng.choice(sorted(unseen))), str(rng.choice(list(DIRECTIONS))), Role.DECISION
    shown = {"two_hop": f"{color} {direction}", "direction": direction}
    return words(shown.get(question.kind, color), role)


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
        trace = _pause(observer, rng)
        trace += words(str(rng.choice(SEARCHES)).format(question.target)) + _pause(observer, rng)
        trace += words(question.target) + words(answer, Role.APPEARANCE)
    else:
        trace = _maybe(OPENERS, observer.filler, rng) + _list_events(question, seen, observer, rng)
        trace += _pause(observer, rng) + words(str(rng.choice(CLOSERS, p=CLOSER_SHARES)), Role.DECISION)
        steps, answer = _conclude(question, seen, rng)
        trace += steps
    if question.options:
        letter = _letter(question, answer, rng)
        trace, answer = [*trace, letter], letter.text
    return trace + words("."), answer


def vocabulary() -> list[str]:
    """Every word that a trace or an answer may hold."""
    phrases = " ".join((*OPENERS, *FILLERS, *SEARCHES, *CLOSERS)).replace("{}", "")
    found = [*COLORS, *DIRECTIONS, *ORDINALS, HERE, *candidates("shape", ""), *candidates("count", ""), *LETTERS]
    return list(dict.fromkeys([*found, "last", ".", *phrases.split()]))
