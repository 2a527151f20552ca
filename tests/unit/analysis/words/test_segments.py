"""Every token belongs to one word or to none, whatever the text and however the tokenizer cuts it."""

import random
import unicodedata
from itertools import groupby

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ktr.analysis.words.alignment import token_spans
from ktr.analysis.words.segments import MARKUP, NO_WORD, PUNCTUATION, SYMBOL, WORD, segment

CORPUS = [
    "the red square moves left and then it stops near the door , so the answer is blue .",
    "I don't know; it's the second one's colour, isn't it? <think> wait </think> <answer>B</answer>",
    "颜色是红色的。先出现蓝色，然后是绿色。 これは赤い 😀😀 👍 🏽 naïve café 12.5 1,000 2nd left-most",
]
PARTS = [
    *("red", " the", " moves", " left-most", "don't", " it's", "o'clock", "_", "A", "É", " naïve", " हिन्दी", "Привет"),
    *("颜色", "红", "。", "，", "これは", "ก็", "한국어"),
    *("😀", "👍🏽", "👨‍👩‍👧", "🇩🇪", "→", "∑", "\u200b", "\ufffd", "\ufeff", "e\u0301"),
    *("12.5", "1,000", " 2nd", "3", "½", "٣", "12:30", "1.", "-"),
    *("<think>", "</think>", "<|im_end|>", "<answer>", "</", ">", "<b", "<"),
    *(".", "...", ", ", "!?", "'", "’s", '"', "(", ")", "\\boxed{", "}", "$", "^", "`", "#"),
    *(" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u3000", "\u2028", "\x00"),
]


RANGES = [(0, 0x80), (0xA0, 0x3000), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS * 4, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def random_texts(count: int) -> list[str]:
    rng = random.Random(0)
    texts = ["".join(rng.choices(PARTS, k=rng.randrange(30))) for _ in range(count)]
    return [*texts, *("".join(chr(rng.randrange(*rng.choice(RANGES))) for _ in range(12)) for _ in range(count))]


def test_tokens_lie_where_the_tokenizer_says(byte_level: Tokenizer):
    parts = exact = 0
    for text in random_texts(150):
        encoding = byte_level.encode(text)
        tokens = [byte_level.decode([token]) for token in encoding.ids]
        found, starts, ends = token_spans(tokens, text)
        assert found == text
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        rows = zip(tokens, spans, encoding.offsets, strict=True)
        for is_part, run in groupby(rows, lambda row: "\ufffd" in row[0]):
            _, ours, theirs = zip(*run, strict=True)
            # Their strings don't say which of several cut characters a part belongs to, only where all of them lie.
            assert (ours[0][0], ours[-1][1]) == (theirs[0][0], theirs[-1][1]) if is_part else ours == theirs
            parts += is_part * len(ours)
            exact += is_part * sum(our == their for our, their in zip(ours, theirs, strict=True))
    assert parts > 1500 and exact > 0.9 * parts


def test_each_token_belongs_to_the_first_word_that_it_holds_a_part_of(byte_level: Tokenizer):
    for text in random_texts(150):
        tokens = [byte_level.decode([token]) for token in byte_level.encode(text).ids]
        _, starts, ends = token_spans(tokens, text)
        segments = segment(tokens, text)
        places = place(segments.pieces, text)
        for start, end, piece in zip(starts, ends, segments.piece_T, strict=True):
            held = [at for at, (a, b) in enumerate(places) if a < end and start < b]
            words = [at for at in held if segments.kinds[at] not in NO_WORD]
            assert piece == next(iter([*words, *held]), -1), (text, start, end)
        outside = set(range(len(text))).difference(*(range(a, b) for a, b in places))
        assert all(text[at].isspace() or unicodedata.category(text[at])[0] in "CZ" for at in outside)


def place(pieces: list[str], text: str) -> list[tuple[int, int]]:
    """Where the pieces stand; they are in order, and none overlaps another."""
    at, places = 0, []
    for piece in pieces:
        start = text.index(piece, at)
        at = start + len(piece)
        places.append((start, at))
    return places


def words_of(tokens: list[str], text: str) -> dict[str, list[str]]:
    segments = segment(tokens, text)
    held: dict[str, list[str]] = {}
    for token, piece in zip(tokens, segments.piece_T, strict=True):
        held.setdefault(segments.pieces[piece] if piece >= 0 else {-1: "blank", -2: "special"}[piece], []).append(token)
    return held


def test_contractions_numbers_and_markup_are_whole():
    tokens = ["<th", "ink", ">\n", "It", "'s", " 1", "2", ".", "5", " left", "-most", " o", "'clock", ".</", "b", ">"]
    assert words_of(tokens, "".join(tokens)) == {
        "<think>": ["<th", "ink", ">\n"],
        "It": ["It"],
        "'s": ["'s"],
        "12.5": [" 1", "2", ".", "5"],
        "left-most": [" left", "-most"],
        "o'clock": [" o", "'clock"],
        ".": [".</"],
        "</b>": ["b", ">"],
    }


def test_a_tokenizer_of_words_joins_them_with_spaces_and_its_end_token_is_not_in_the_text():
    tokens = ["<think>", "red", ".", "</think>", "<|im_end|>"]
    segments = segment(tokens, "<think> red . </think>")
    assert segments.pieces == tokens[:-1] and segments.kinds == [MARKUP, WORD, PUNCTUATION, MARKUP]
    assert segments.piece_T.tolist() == [0, 1, 2, 3, -2]


def test_bytes_of_a_character_belong_to_its_word_and_words_without_spaces_are_tokens():
    tokens = ["\ufffd", "\ufffd", "\ufffd\ufffd", "\ufffd", "红色", "abc", " ", "é"]
    segments = segment(tokens, "😀颜红色abc é")
    assert segments.pieces == ["😀", "颜", "红色", "abc", "é"] and segments.kinds[0] == SYMBOL
    assert segments.piece_T.tolist() == [0, 0, 1, 1, 2, 3, -1, 4]


@pytest.mark.parametrize("text", [None, "quite another text"])
def test_without_its_text_a_completion_is_its_tokens_joined(text: str | None):
    assert words_of([" red", "der", ".", " x"], text) == {"redder": [" red", "der"], ".": ["."], "x": [" x"]}
    assert words_of(["red", "der", "."], text) == {"red": ["red"], "der": ["der"], ".": ["."]}


def test_a_completion_cut_off_within_a_character_ends_in_a_symbol():
    segments = segment([" a", "\ufffd", "\ufffd"], " a\ufffd")
    assert segments.piece_T.tolist() == [0, 1, 1] and segments.kinds == [WORD, SYMBOL]


def test_an_empty_completion_has_no_words():
    segments = segment([], "")
    assert segments.pieces == [] and segments.piece_T.shape == (0,)
    assert np.array_equal(segment(["<|im_end|>"], "").piece_T, [-2])
