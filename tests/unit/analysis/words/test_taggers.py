"""Parts of speech from TextBlob's lexicon, and the choice of a tagger."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from ktr.analysis.words.taggers import CLASSES, SpacyTagger, TextBlobTagger, make_tagger, treebank_forms
from ktr.errors import ConfigError, MissingExtra

from .conftest import ByLetters


@pytest.fixture(scope="module")
def textblob() -> TextBlobTagger:
    return TextBlobTagger()


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The red car quickly stops", "DET ADJ NOUN ADV VERB"),
        ("First , she is in Paris", "ADJ X PRON VERB ADP NOUN"),
        ("it ’s two . It 's 2nd 12.5", "PRON VERB NUM X PRON VERB NUM NUM"),
        ("I don 't and John 's can 't", "PRON VERB ADV CONJ NOUN PRT VERB ADV"),
        ("颜色 Привет é 👍 <think> !?", "X X X X NOUN X"),
        ("", ""),
    ],
)
def test_words_are_tagged_from_the_lexicon(textblob: TextBlobTagger, sentence: str, expected: str):
    found = textblob(sentence.split())
    words = [at for at, piece in enumerate(sentence.split()) if piece not in {"<think>", ",", ".", "!?", "👍"}]
    assert [found[at] for at in words] == [expected.split()[at] for at in words]
    assert len(found) == len(sentence.split()) and set(found) <= set(CLASSES)


def test_a_word_that_starts_a_sentence_is_looked_up_in_small_letters(textblob: TextBlobTagger):
    assert textblob(["Wait", "!", "Look", "here"])[::2] == ["VERB", "VERB"]


def test_contractions_are_written_as_in_the_treebank():
    assert treebank_forms(["don", "'t", "won", "’t", "it", "’s", "'t"]) == ["do", "n't", "wo", "n't", "it", "'s", "'t"]
    assert treebank_forms(["n", "'t"]) == ["n", "n't"]


def test_a_tagger_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spacy", None)  # as where it is not installed
    assert isinstance(make_tagger(), TextBlobTagger) and make_tagger("textblob").name.startswith("textblob ")
    assert isinstance(make_tagger(f"{ByLetters.__module__}.ByLetters"), ByLetters)
    for name in ("spcy", "ktr.absent.Tagger", "ktr.errors.Absent", "."):
        with pytest.raises(ConfigError, match="no such tagger; take textblob, spacy or module.Class"):
            make_tagger(name)
    with pytest.raises(ConfigError, match="spaCy is not installed"):
        make_tagger("spacy")
    monkeypatch.setitem(sys.modules, "textblob.en", None)
    with pytest.raises(MissingExtra, match=r"textblob is not installed: pip install 'ktr\[analysis\]'"):
        make_tagger()


def fake_spacy(*models: str) -> ModuleType:
    """What the tagger uses of spaCy: each word's tag is what stands after its slash."""
    spacy = ModuleType("spacy")
    pipeline = SimpleNamespace(vocab=None, meta={"lang": "en", "name": "small", "version": "1"})
    parts = {
        "__version__": "0",
        "util": SimpleNamespace(get_installed_models=lambda: list(models)),
        "tokens": SimpleNamespace(Doc=lambda vocab, words: words),
        "load": lambda name, exclude: type(
            "Pipeline",
            (),
            {
                **vars(pipeline),
                "__call__": lambda self, words: [SimpleNamespace(pos_=word.rpartition("/")[2]) for word in words],
            },
        )(),
    }
    vars(spacy).update(parts)
    return spacy


def test_a_model_of_spacy_is_preferred_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spacy", fake_spacy("de_core", "en_small"))
    tagger = make_tagger()
    assert isinstance(tagger, SpacyTagger) and tagger.name == "spacy 0, en_small 1"
    assert tagger(["a/PROPN", "b/AUX", "c/SCONJ", "d/PART", "e/SPACE", "f/ADJ"]) == [
        "NOUN",
        "VERB",
        "CONJ",
        "PRT",
        "X",
        "ADJ",
    ]
    assert isinstance(make_tagger("spacy:de_core"), SpacyTagger)
    with pytest.raises(ConfigError, match="no such model; there are: en_small, de_core"):
        make_tagger("spacy:fr_core")
    monkeypatch.setitem(sys.modules, "spacy", fake_spacy())
    assert isinstance(make_tagger(), TextBlobTagger)
    with pytest.raises(ConfigError, match="spaCy has no model here"):
        make_tagger("spacy")
