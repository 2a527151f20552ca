"""Records of scored completions, made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from ktr.analysis import figure_style
from ktr.analysis.words import clouds

Record = dict[str, Any]


def make_record(
    question: str, tokens: str, entropy: tuple[int, ...] = (), visual: tuple[int, ...] = (), **changes: Any
) -> Record:
    """A completion whose text is its tokens with spaces; two signals select the positions that are given."""
    names = tokens.split()
    chosen = {"entropy": list(entropy), "visual": list(visual)}
    scores = {name: [1.0 + at if at in held else 0.1 * at for at in range(len(names))] for name, held in chosen.items()}
    return {
        "question": question,
        "problem": "what ?",
        "problem_type": "free-form",
        "text": tokens,
        "tokens": names,
        "scores": scores,
        "selected": chosen,
        "weights": [int(at in {*entropy, *visual}) for at in range(len(names))],
    } | changes


class ByLetters:
    """A tagger of two classes: words with an "o" are nouns, and all others verbs."""

    name = "by letters"

    def __call__(self, pieces: list[str]) -> list[str]:
        return ["NOUN" if "o" in piece else "VERB" for piece in pieces]


def write_records(path: Path, records: list[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def coarse_figures(monkeypatch: pytest.MonkeyPatch):
    """Figures of few pixels: no law depends on them, and they take most of the time."""
    monkeypatch.setitem(figure_style.STYLE, "savefig.dpi", 20)
    monkeypatch.setattr(clouds, "SIZE", (300, 140))
