"""What every word of a *sampled* completion depends on, read off its text alone.

The grammar of the reasoning is known, so a completion that the policy wrote can be labelled as the generator would have
labelled it: an ordinal before the conclusion lists an event, a colour after it is order, and so on.
"""

from collections.abc import Sequence

from ktr.shapes.questions import APPEARANCE_KINDS, LETTERS, candidates
from ktr.shapes.reasoning import CLOSERS, HERE, LOCATED_KINDS, Role
from ktr.shapes.world import COLORS, DIRECTIONS, ORDINALS
from ktr.types import RolloutGroup

DIGITS = candidates("count", "")
ANSWER_WORDS = frozenset((*COLORS, *DIRECTIONS, *candidates("shape", ""), *DIGITS, *LETTERS))


def label_words(text: str, kind: str, target: str, options: Sequence[str] = ()) -> list[Role]:
    """Role of every whitespace-separated word of a completion.

    ``kind`` and ``target`` are the question's. DECISION words (to list another event or to conclude, and guesses)
    depend on the video in a way that the text does not settle: leave them out of a score against this truth.
    """
    spoken = text.split()
    end = spoken.index("</think>") if "</think>" in spoken else len(spoken)
    thought = [word for word in spoken[:end] if word != "<think>"]
    label = _label_appearance if kind in APPEARANCE_KINDS else _label_temporal
    roles = iter(label(thought, kind, target, options))
    labels = [Role.NOTHING if word == "<think>" else next(roles) for word in spoken[:end]]
    from_video = Role.APPEARANCE if kind in APPEARANCE_KINDS else Role.ORDER_MOTION
    answer = Role.DERIVED if thought else from_video
    return labels + [answer if word in ANSWER_WORDS else Role.NOTHING for word in spoken[end:]]


def token_roles(group: RolloutGroup) -> list[list[str]] | None:
    """A role for each token of a group's completions: one word is one token, and EOS depends on nothing.

    None where the truth is not known: a question of another data set, or tokens that are no whole words.
    """
    question = group.question
    if "target" not in question.extra:
        return None
    roles = []
    for completion in group.completions:
        labels = [
            str(role)
            for role in label_words(completion.text, question.category, question.extra["target"], question.options)
        ]
        num_after = len(completion.token_ids_T) - len(labels)
        if num_after != (completion.finish_reason == "stop"):
            return None
        roles.append(labels + ["nothing"] * num_after)
    return roles


def _letter_role(word_before: str, options: Sequence[str]) -> Role:
    return Role.DERIVED if any(option.endswith(f" {word_before}") for option in options) else Role.DECISION


def _label_appearance(thought: list[str], kind: str, target: str, options: Sequence[str]) -> list[Role]:
    roles, found = [], ""
    for word in thought:
        if not found and word in candidates(kind, target):
            found = word
            roles.append(Role.APPEARANCE)
        elif word in LETTERS:
            roles.append(_letter_role(found, options))
        else:
            roles.append(Role.NOTHING)
    return roles


def _label_temporal(thought: list[str], kind: str, target: str, options: Sequence[str]) -> list[Role]:
    listed: set[str] = set()
    concluding = guessing = False
    roles = []
    for position, word in enumerate(thought):
        role = Role.NOTHING
        if word in CLOSERS:
            role, concluding = Role.DECISION, True
            guessing = kind in LOCATED_KINDS and HERE not in listed
        elif not concluding:
            if word == HERE or word in DIGITS or (word in ORDINALS and thought[position - 1 : position] == [HERE]):
                role = Role.DERIVED
            elif word in ORDINALS and ORDINALS.index(word) >= 2:
                role = Role.DECISION
            elif word in COLORS or word in DIRECTIONS:
                role = Role.ORDER_MOTION
            listed.add(word)
        elif word in LETTERS:
            role = _letter_role(thought[position - 1], options)
        elif word in ANSWER_WORDS or word in (*ORDINALS, "last", HERE):
            role = Role.DECISION if guessing else Role.DERIVED
            # What the list does not hold cannot lead on: from here on the writer guesses.
            guessing |= (word in ORDINALS or word in COLORS) and word not in listed
        roles.append(role)
    return roles
