"""All scored tokens of some runs as columns: what each is, where it stands, and which signals select it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from ktr.analysis.words.scored_records import Record
from ktr.analysis.words.segments import NO_WORD, NUMBER, SPACE, SPECIAL, Segments, segment
from ktr.analysis.words.taggers import CLASSES, Tagger

TOKEN_CLASSES = (*CLASSES, *NO_WORD)
CODES = {name: code for code, name in enumerate(TOKEN_CLASSES)}
KNOWN_SIGNALS = ("entropy", "visual", "temporal")
UPDATED, LEFT_OUT, ALL = "updated", "left out", "all"


@dataclass(frozen=True)
class TokenTable:
    """T tokens, in the order of the records.

    ``class_T`` counts ``TOKEN_CLASSES``; ``role_T``, ``type_T`` and ``question_T`` count ``roles``, ``problem_types``
    and questions, with a role of -1 where none is known. ``selected_T`` has bit s where ``signals[s]`` selects the
    token, ``updated_T`` is where its weight is not 0. ``scores_ST`` is NaN where a signal gave no score. ``word_T``
    counts ``vocabulary``, words in small letters; -1 where the token belongs to none.
    """

    signals: tuple[str, ...]
    roles: tuple[str, ...]
    problem_types: tuple[str, ...]
    num_questions: int
    class_T: Int[np.ndarray, " T"]
    role_T: Int[np.ndarray, " T"]
    type_T: Int[np.ndarray, " T"]
    question_T: Int[np.ndarray, " T"]
    position_T: Int[np.ndarray, " T"]
    length_T: Int[np.ndarray, " T"]
    selected_T: UInt[np.ndarray, " T"]
    updated_T: Bool[np.ndarray, " T"]
    scores_ST: Float[np.ndarray, "S T"]
    word_T: Int[np.ndarray, " T"]
    vocabulary: tuple[str, ...]

    def selects(self, signal: str) -> Bool[np.ndarray, " T"]:
        return (self.selected_T >> np.uint32(self.signals.index(signal))) & 1 == 1

    def sets(self) -> dict[str, Bool[np.ndarray, " T"]]:
        """The tokens that each signal selects, those that are updated, those left out, and all of them."""
        sets = {signal: self.selects(signal) for signal in self.signals}
        return sets | {UPDATED: self.updated_T, LEFT_OUT: ~self.updated_T, ALL: np.ones_like(self.updated_T)}


class TokenTableBuilder:
    """Takes in records one by one, and keeps some 40 bytes of each token. Runs that are added share their questions."""

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self._columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
        self._scores: list[dict[str, np.ndarray]] = []
        self._known: dict[str, dict[str, int]] = {
            name: {} for name in ("signals", "roles", "types", "questions", "words")
        }

    def add(self, record: Record) -> None:
        tokens = record["tokens"]
        segments = segment(tokens, record.get("text"))
        class_T, word_T = self._classes_and_words(segments)
        selected_T = np.zeros(len(tokens), dtype=np.uint32)
        for signal, positions in record["selected"].items():
            selected_T[positions] |= np.uint32(1 << self._number("signals", signal))
        weights = record.get("weights")
        question = f"{record['question']}\n{record.get('problem', '')}"
        row = {
            "class_T": class_T,
            "role_T": np.array([self._number("roles", str(role)) for role in record.get("roles", ())] or -1),
            "type_T": np.array(self._number("types", str(record.get("problem_type", "")))),
            "question_T": np.array(self._number("questions", question)),
            "position_T": np.arange(len(tokens)),
            "length_T": np.array(len(tokens)),
            "selected_T": selected_T,
            "updated_T": selected_T > 0 if weights is None else np.array(weights, dtype=bool),
            "word_T": word_T,
        }
        for name, dtype in _COLUMNS.items():
            self._columns[name].append(np.broadcast_to(row[name].astype(dtype), (len(tokens),)))
        for signal in record["scores"]:
            self._number("signals", signal)
        scores = {signal: np.array(values, dtype=np.float32) for signal, values in record["scores"].items()}
        self._scores.append(scores)

    def table(self) -> TokenTable:
        columns = {name: np.concatenate(parts).astype(_COLUMNS[name]) for name, parts in self._columns.items()}
        signals = _in_order(self._known["signals"])
        scores_ST = np.full((len(signals), len(columns["class_T"])), np.nan, dtype=np.float32)
        at = 0
        for scores, part in zip(self._scores, self._columns["class_T"], strict=True):
            for row, signal in enumerate(signals):
                if signal in scores:
                    scores_ST[row, at : at + len(part)] = scores[signal]
            at += len(part)
        found_T, columns["selected_T"] = columns["selected_T"], np.zeros_like(columns["selected_T"])
        for row, signal in enumerate(signals):
            bit_T = found_T >> np.uint32(self._known["signals"][signal]) & np.uint32(1)
            columns["selected_T"] |= bit_T << np.uint32(row)
        return TokenTable(
            signals=signals,
            roles=tuple(self._known["roles"]),
            problem_types=tuple(self._known["types"]),
            num_questions=len(self._known["questions"]),
            scores_ST=scores_ST,
            vocabulary=tuple(self._known["words"]),
            **columns,
        )

    def _classes_and_words(self, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
        tags = self._tagger(segments.pieces)
        classes, words = [], []
        for piece, kind, tag in zip(segments.pieces, segments.kinds, tags, strict=True):
            is_word = kind not in NO_WORD
            classes.append(CODES[tag if is_word and kind != NUMBER else kind])
            words.append(self._number("words", piece.lower()) if is_word else -1)
        # The last two are for the pieces -2 and -1.
        class_P = np.array([*classes, CODES[SPECIAL], CODES[SPACE]])
        return class_P[segments.piece_T], np.array([*words, -1, -1])[segments.piece_T]

    def _number(self, kind: str, name: str) -> int:
        known = self._known[kind]
        return known.setdefault(name, len(known))


_COLUMNS: Mapping[str, type] = {
    "class_T": np.int8,
    "role_T": np.int16,
    "type_T": np.int16,
    "question_T": np.int32,
    "position_T": np.int32,
    "length_T": np.int32,
    "selected_T": np.uint32,
    "updated_T": np.bool_,
    "word_T": np.int32,
}


def _in_order(signals: Iterable[str]) -> tuple[str, ...]:
    found = set(signals)
    return tuple(name for name in KNOWN_SIGNALS if name in found) + tuple(sorted(found.difference(KNOWN_SIGNALS)))
