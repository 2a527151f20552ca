"""Prose that says nothing about any video: sentences of a small grammar, drawn at random.

It speaks only words that the vocabulary holds anyway, and none that a derivation or a question's kind turns on: no
colour, shape, direction, ordinal, digit or letter, no "here", "last", "so" or "thus".
"""

import numpy as np

GRAMMAR: dict[str, tuple[str, ...]] = {
    "SENTENCE": (
        "CLAUSE .",
        "CLAUSE HOW .",
        "START CLAUSE .",
        "START , CLAUSE .",
        "START CLAUSE HOW .",
        "where is THING ?",
        "START , where is THING ?",
    ),
    "START": ("hmm", "ok", "well", "now", "then", "and now", "step by step", "in order"),
    "CLAUSE": (
        "let me DO THING",
        "i DO THING",
        "i think that THING is THING",
        "note that THING comes HOW",
        "THING is THING",
        "THING has THING",
    ),
    "DO": ("watch", "find", "check", "note", "look for", "think of", "answer with"),
    "THING": ("ARTICLE NOUN", "ARTICLE NOUN", "NOUN", "ARTICLE NOUN of NOUN"),
    "ARTICLE": ("the", "a", "that", "one"),
    "NOUN": (
        *("video", "thing", "things", "order", "word", "number"),
        *("letter", "option", "answer", "step", "look", "check"),
    ),
    "HOW": ("carefully", "now", "then", "in order", "step by step", "for now", "with that", "by then"),
}


def sentence(rng: np.random.Generator, symbol: str = "SENTENCE") -> str:
    """A random expansion of a symbol of the grammar, each of its forms equally likely."""
    form = str(rng.choice(GRAMMAR[symbol]))
    return " ".join(sentence(rng, word) if word in GRAMMAR else word for word in form.split())


def prose(num_sentences: int, rng: np.random.Generator) -> str:
    """So many random sentences."""
    return " ".join(sentence(rng) for _ in range(num_sentences))
