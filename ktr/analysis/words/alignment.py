"""Where each token of a completion stands in its text, from the tokens' own strings."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

UNREADABLE = "\ufffd"  # what a byte that is no character of its own decodes to
BLANKS = b" \n\r\t"


def token_spans(tokens: Sequence[str], text: str | None) -> tuple[str, Int[np.ndarray, " T"], Int[np.ndarray, " T"]]:
    """The text, and of each token the characters ``[start, end)`` that it holds at least a byte of.

    ``tokens`` are strings that were decoded one by one: a token that cuts a character in two has U+FFFD for its part,
    and a tokenizer may have dropped the blanks between tokens. A token that the text lacks (a special one) is empty.
    Where several such parts follow one another and leave open where each ends, parts of about one length are taken.
    Where ``text`` is None, or not what the tokens say, the text returned is the tokens joined.
    """
    if text is None:
        return _joined(tokens)
    joined = "".join(tokens)
    if UNREADABLE not in joined and joined.startswith(text) and text:  # the rule, and ten times as fast
        edges = np.minimum(np.cumsum([0, *map(len, tokens)]), len(text))
        return text, edges[:-1], edges[1:]
    data = text.encode("utf-8", "surrogatepass")
    steps: list[dict[int, tuple[int, int, int]]] = []  # of each token: end → (cost, where the token before ends, start)
    reached = {0: 0}  # ends of the token before, with what they cost
    for token in tokens:
        step: dict[int, tuple[int, int, int]] = {}
        for at, cost in reached.items():
            for start, end in _places(data, at, token):
                found = (cost + (end - start) ** 2, at, start)  # of several ways, the one with parts of equal lengths
                step[end] = min(step.get(end, found), found)
        steps.append(step or {at: (cost, at, at) for at, cost in reached.items()})
        reached = {end: cost for end, (cost, _, _) in steps[-1].items()}
    at = max(reached)
    if at < len(data.rstrip()):
        return _joined(tokens)
    spans = []
    for step in reversed(steps):
        end = at
        _, at, start = step[end]
        spans.append((start, end))
    starts, ends = np.array(spans[::-1], dtype=np.int64).reshape(-1, 2).T
    if len(data) == len(text):
        return text, starts, ends
    is_first_byte = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
    chars = np.concatenate([[0], np.cumsum(is_first_byte)])  # characters that began before each byte
    inside = np.append(~is_first_byte, False)[starts]
    first = chars[starts] - inside
    return text, first, np.where(ends > starts, chars[ends], first)


def _places(data: bytes, at: int, token: str) -> Iterator[tuple[int, int]]:
    """Every (start, end) in bytes at which ``token`` can stand, at ``at`` or after the blanks there."""
    literal = token.encode("utf-8", "surrogatepass")
    if UNREADABLE in token:
        # A mark stands for 1 to 3 bytes: those of a character's start, or one of its later ones.
        marks = token.count(UNREADABLE)
        for end in range(at + len(literal) - 2 * marks, at + len(literal) + 1):
            if end <= len(data) and data[at:end].decode("utf-8", "replace") == token:
                yield at, end
        return
    if not data.startswith(literal, at):
        while at < len(data) and data[at] in BLANKS:
            at += 1
        literal = literal.lstrip()
        if not literal or not data.startswith(literal, at):
            return
    yield at, at + len(literal)


def _joined(tokens: Sequence[str]) -> tuple[str, Int[np.ndarray, " T"], Int[np.ndarray, " T"]]:
    """The tokens one after another; with blanks between them where none of them has its own."""
    gap = "" if any(token[:1].isspace() for token in tokens) else " "
    lengths = np.array([len(token) for token in tokens], dtype=np.int64)
    ends = np.cumsum(lengths + len(gap)) - len(gap)
    return gap.join(tokens), ends - lengths, ends
