"""The words of a completion, and which tokens are whose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex
from jaxtyping import Int

from ktr.analysis.words.alignment import token_spans

# What a token is that belongs to no word; numbers are words.
PUNCTUATION, SYMBOL, MARKUP, SPACE, SPECIAL = NO_WORD = ("PUNCT", "SYM", "MARKUP", "SPACE", "SPECIAL")
WORD, NUMBER, UNSPACED = "WORD", "NUM", "UNSPACED"

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"(?:[[\p{{L}}\p{{N}}]--[{_UNSPACED}]]\p{{M}}*)"
_CLITIC = rf"['’](?i:s|t|re|ve|m|ll|d)(?!{_LETTER})"
_PIECES = regex.compile(
    rf"""(?V1)
      (?P<{MARKUP}> <\|[^|<>\s]+\|> | </?\p{{L}}[\w.-]*\s*/?> )
    | (?P<{NUMBER}> \p{{N}}+(?:[.,:]\p{{N}}+)*+ (?!{_LETTER}) )
    | (?P<{WORD}> (?<=\p{{L}}){_CLITIC} | {_LETTER}+(?: [-_]{_LETTER}+ | (?!{_CLITIC})['’]{_LETTER}+ )*+ )
    | (?P<{UNSPACED}> [{_UNSPACED}][{_UNSPACED}\p{{M}}]*+ )
    | (?P<{SPACE}> [\s\p{{Z}}\p{{Cc}}]+ )
    | (?P<{PUNCTUATION}> [\p{{P}}[\p{{S}}&&\p{{ASCII}}]] )
    | (?P<{SYMBOL}> (?: [^\s\p{{Z}}\p{{Cc}}\p{{L}}\p{{N}}\p{{P}}[\p{{S}}&&\p{{ASCII}}]] )+ | . )
    """,
    regex.VERBOSE | regex.DOTALL,
)


@dataclass(frozen=True)
class Segments:
    """A completion cut into ``pieces``, in order: words, numbers, punctuation, symbols and markup, without blanks.

    ``kinds`` says what each piece is: ``WORD``, ``NUMBER``, or one of ``NO_WORD``. ``piece_T`` is the piece that each
    token belongs to; -1 for a token that holds blanks only, and -2 for one that is not in the text (a special token).
    """

    pieces: list[str]
    kinds: list[str]
    piece_T: Int[np.ndarray, " T"]


def segment(tokens: Sequence[str], text: str | None) -> Segments:
    """Cut a completion into pieces, and give each token to one of them, or to none.

    A token belongs to the first word that it holds a part of; without one, to the first piece that is not blank. In
    writing without spaces (Chinese, Japanese, Thai …) a word is what one token holds, or the tokens that share a
    character.
    """
    text, starts_T, ends_T = token_spans(tokens, text)
    cuts = set() if text.isascii() else set(starts_T.tolist())
    pieces, kinds, bounds = [], [], []
    for start, end, kind in _pieces(text, cuts):
        pieces.append(text[start:end])
        kinds.append(kind)
        bounds.append((start, end))
    starts_P, ends_P = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
    is_word_P = np.array([kind not in NO_WORD for kind in kinds], dtype=bool)
    words = np.flatnonzero(is_word_P)
    first_T = np.searchsorted(ends_P, starts_T, side="right")
    first_word_T = np.append(words, len(pieces))[np.searchsorted(words, first_T)]
    starts_P = np.append(starts_P, len(text) + 1)  # a piece after the last, which no token reaches
    piece_T = np.where(starts_P[first_word_T] < ends_T, first_word_T, first_T)
    piece_T = np.where(starts_P[piece_T] < ends_T, piece_T, -1)
    return Segments(pieces, kinds, np.where(ends_T > starts_T, piece_T, -2))


def _pieces(text: str, cuts: set[int]) -> Iterator[tuple[int, int, str]]:
    for match in _PIECES.finditer(text):
        (start, end), kind = match.span(), match.lastgroup or SYMBOL
        if kind == UNSPACED:
            edges = [start, *(at for at in range(start + 1, end) if at in cuts), end]
            yield from ((a, b, WORD) for a, b in pairwise(edges))
        elif kind != SPACE:
            yield start, end, kind
