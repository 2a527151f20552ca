"""Words of any script, for ROUGE.

Of ASCII text they are those of rouge_score, stemming included, so that scores are those of Video-R1. rouge_score knows
no other letters and drops them: two answers in Chinese had nothing in common with each other, or with themselves.
"""

import re
import unicodedata
from itertools import groupby

from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

# Scripts without spaces between words: Thai to Tibetan, Burmese, Khmer, kana, Han (also beyond the first plane).
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class RougeWords(Tokenizer):
    """Words are runs of letters, digits and their marks after Unicode and case folding.

    A character of a script without spaces is a word of its own, with the marks that follow it; words of ASCII letters
    are stemmed.
    """

    def __init__(self) -> None:
        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        if text.isascii():
            return self._english.tokenize(text)
        folded = unicodedata.normalize("NFKC", text).casefold()
        words: list[str] = []
        for is_word, run in groupby(folded, key=lambda character: unicodedata.category(character)[0] in "LMN"):
            if is_word:
                words += _words_of(list(run))
        return [stem for word in words for stem in (self._english.tokenize(word) if word.isascii() else [word])]


def _words_of(run: list[str]) -> list[str]:
    words, is_open = [""], True  # an open word goes on with the next letter
    for character in run:
        is_mark = unicodedata.category(character)[0] == "M"
        is_unspaced = UNSPACED.match(character) is not None
        if is_mark or (is_open and not is_unspaced):
            words[-1] += character
        else:
            words.append(character)
            is_open = not is_unspaced
    return [word for word in words if word]
