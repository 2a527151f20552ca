"""Clouds of the words that a signal selects, and of those that it leaves out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font

from ktr.errors import ConfigError, MissingExtra

SIZE = (900, 420)  # of a cloud, in pixels
DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib; it has no Chinese and hardly an emoji


class Clouds:
    """Draws words in the size of their weight, in ``font``: a file of a font that has their letters.

    ``unwritten`` are the words that were left out of a cloud because the font has no letters for them. Raises
    ``ConfigError`` for a font that is none, and ``MissingExtra`` without wordcloud.
    """

    def __init__(self, font: str = "") -> None:
        try:
            import wordcloud
        except ImportError as error:
            raise MissingExtra("wordcloud", "analysis") from error
        self._wordcloud = wordcloud.WordCloud
        self.font = font or findfont(DEFAULT_FONT)
        try:
            self._letters = set(FT2Font(self.font).get_charmap())
        except (RuntimeError, OSError) as error:
            raise ConfigError(f"font={font}: cannot be read as a font; name a .ttf or .otf file") from error
        self.unwritten: set[str] = set()

    def draw(self, weights: Mapping[str, float], color: str) -> UInt8[np.ndarray, "H W 3"] | None:
        """The picture; None where no word has a weight and letters."""
        lacking = {word for word in weights if not self._letters.issuperset(map(ord, word))}
        self.unwritten |= lacking
        written = {word: weight for word, weight in weights.items() if word not in lacking and weight > 0}
        if not written:
            return None
        cloud = self._wordcloud(
            font_path=self.font,
            width=SIZE[0],
            height=SIZE[1],
            max_words=60,
            min_font_size=14,
            max_font_size=110,
            margin=6,
            prefer_horizontal=1.0,
            background_color="white",
            color_func=lambda *_, **__: color,
            random_state=0,
        )
        return cloud.generate_from_frequencies(written).to_array()


def excesses(words: Sequence[Mapping[str, Any]], sign: int) -> dict[str, float]:
    """By word how much more (``sign`` 1) or less (-1) often it is selected than words are on the whole."""
    return {entry["word"]: sign * entry["excess"] for entry in words if sign * entry["excess"] > 0}
