"""Parts of speech of words: by spaCy where it has a model of its own, otherwise from TextBlob's lexicon."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Protocol, runtime_checkable

from ktr.errors import ConfigError, MissingExtra

# The universal tags (Petrov et al. 2012), with interjections as a class of their own. X is any other word.
CLASSES = ("NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "ADP", "CONJ", "PRT", "NUM", "INTJ", "X")
# Tags of the Penn Treebank, by their first three letters or two: NNS is NN, PRP$ is PRP.
PENN = {
    **{"NN": "NOUN", "VB": "VERB", "MD": "VERB", "JJ": "ADJ", "RB": "ADV", "WRB": "ADV", "PRP": "PRON", "WP": "PRON"},
    **{"DT": "DET", "PDT": "DET", "WDT": "DET", "EX": "PRON", "IN": "ADP", "TO": "PRT", "RP": "PRT", "POS": "PRT"},
    **{"CC": "CONJ", "CD": "NUM", "UH": "INTJ"},
}
# The tags of Universal Dependencies that have another name here.
DEPENDENCIES = {"PROPN": "NOUN", "AUX": "VERB", "CCONJ": "CONJ", "SCONJ": "CONJ", "PART": "PRT"}


@runtime_checkable
class Tagger(Protocol):
    """One of ``CLASSES`` for each piece of a completion, in order; those of punctuation and markup are not read.

    ``name`` says in a report which tagger it was.
    """

    name: str

    def __call__(self, pieces: Sequence[str]) -> list[str]: ...


class TextBlobTagger:
    """TextBlob's English lexicon of 94,000 words, with its rules for capitals, digits and endings.

    It needs no download and takes each word for itself, whatever stands beside it. A word that is not in Latin letters
    is X.
    """

    def __init__(self) -> None:
        try:
            from textblob.en import lexicon, parser  # not above: it loads nltk, which takes two seconds
        except ImportError as error:
            raise MissingExtra("textblob", "analysis") from error
        self.name = f"textblob {version('textblob')}"
        self._lexicon = lexicon
        self._find_tags = parser.find_tags
        self._class = cache(self._class_of)

    def __call__(self, pieces: Sequence[str]) -> list[str]:
        classes, before = [], "."
        for word in treebank_forms(pieces):
            classes.append(self._class(word, before in ".!?>"))
            if word == "'s" and classes[-2:-1] in (["PRON"], ["ADV"]):  # it's, there's, where's
                classes[-1] = "VERB"
            before = word[-1:]
        return classes

    def _class_of(self, word: str, starts_sentence: bool) -> str:
        if not any("a" <= letter <= "z" for letter in word.lower()) and not word[:1].isdigit():
            return "X"
        if starts_sentence and word.lower() in self._lexicon:
            word = word.lower()
        # Second after a word of no meaning: as the first of a sentence, a name would be looked up in small letters.
        tag = self._find_tags(["-", word])[1][1]
        return PENN.get(tag[:3]) or PENN.get(tag[:2], "X")


class SpacyTagger:
    """A spaCy model that is installed: ``model``, or the first with a tagger of English, or of any language."""

    def __init__(self, model: str = "") -> None:
        try:
            import spacy  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ConfigError(
                "tagger=spacy: spaCy is not installed; install it and a model, or drop tagger="
            ) from error
        installed = sorted(spacy.util.get_installed_models(), key=lambda name: (not name.startswith("en_"), name))
        if not (model or installed):
            raise ConfigError("tagger=spacy: spaCy has no model here; install one, such as en_core_web_sm")
        if model and model not in installed:
            raise ConfigError(f"tagger=spacy:{model}: no such model; there are: {', '.join(installed) or 'none'}")
        self._document = spacy.tokens.Doc
        self._pipeline = spacy.load(model or installed[0], exclude=["ner"])
        meta = self._pipeline.meta
        self.name = f"spacy {spacy.__version__}, {meta['lang']}_{meta['name']} {meta['version']}"

    def __call__(self, pieces: Sequence[str]) -> list[str]:
        doc = self._pipeline(self._document(self._pipeline.vocab, words=treebank_forms(pieces)))
        found = [DEPENDENCIES.get(token.pos_, token.pos_) for token in doc]
        return [name if name in CLASSES else "X" for name in found]


TAGGERS: Mapping[str, Callable[[], Tagger]] = {"textblob": TextBlobTagger, "spacy": SpacyTagger}


def make_tagger(name: str = "") -> Tagger:
    """``textblob``, ``spacy``, ``spacy:<model>``, or ``module.Class`` of your own.

    Without a name, spaCy if it is there with a model, and TextBlob if not. Raises ``ConfigError`` for another name, and
    ``MissingExtra`` without TextBlob.
    """
    if not name:
        try:
            return SpacyTagger()
        except ConfigError:
            return TextBlobTagger()
    if name.startswith("spacy:"):
        return SpacyTagger(name.removeprefix("spacy:"))
    module, _, attribute = name.rpartition(".")
    try:
        return TAGGERS[name]() if name in TAGGERS else getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"tagger={name}: no such tagger; take textblob, spacy or module.Class ({error})") from error


def treebank_forms(pieces: Sequence[str]) -> list[str]:
    """Pieces as the Penn Treebank writes them: do n't, ca n't for ``don``, ``'t`` and ``can``, ``'t``."""
    forms = [piece.replace("’", "'") for piece in pieces]
    for at in range(1, len(forms)):
        if forms[at].lower() == "'t" and forms[at - 1].lower().endswith("n"):
            forms[at - 1 : at + 1] = forms[at - 1][:-1] or "n", "n't"
    return forms
