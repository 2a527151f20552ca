"""words.html, words.json and their figures: the words that the signals of some runs select."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ktr.analysis.attribution_summary import pair_names
from ktr.analysis.html import write_page
from ktr.analysis.words.bootstrap import CONFIDENCE, DRAWS
from ktr.analysis.words.clouds import Clouds
from ktr.analysis.words.scored_records import Counts, scored_records, source_of
from ktr.analysis.words.taggers import make_tagger
from ktr.analysis.words.token_table import TokenTableBuilder
from ktr.analysis.words.word_figures import NAMES, write_word_figures
from ktr.analysis.words.word_statistics import PUBLISHED, word_statistics
from ktr.console.progress_line import ProgressLine
from ktr.errors import ConfigError, MissingData, MissingExtra
from ktr.record.json_file import write_object

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WordOptions:
    """What a page is made with; see ``make_tagger``, ``source_of`` and ``Clouds`` for the choices."""

    tagger: str = ""
    records: str = ""
    font: str = ""
    seed: int = 0


def words_pages(arguments: Sequence[str]) -> Iterator[Path]:
    """Write the page of each run folder into it, or with ``output=`` one of all of them; yield the pages.

    ``arguments`` are run folders and ``option=value``: ``output`` and the fields of ``WordOptions``. Raises
    ``ConfigError`` for an option that is none of these.
    """
    folders = [Path(text) for text in arguments if "=" not in text or Path(text).exists()]
    given = dict(text.split("=", 1) for text in arguments if Path(text) not in folders)
    known = ("output", *(option.name for option in fields(WordOptions)))
    for name in given:
        if name not in known:
            raise ConfigError(f"{name}={given[name]}: no such option; there are {', '.join(known)}")
    if not folders:
        raise ConfigError("no run folder; name one, such as runs/<name>")
    seed = given.pop("seed", "0")
    if not seed.isdecimal():
        raise ConfigError(f"seed={seed}: name a whole number, 0 or more")
    output = given.pop("output", "")
    options = WordOptions(seed=int(seed), **given)
    if output:
        yield write_words(folders, Path(output), options)
    else:
        yield from (write_words([folder], folder, options) for folder in folders)


def words_of_run(run_dir: Path) -> Path | None:
    """``write_words`` of one run into its folder; None where no token was scored, or an extra package isn't there."""
    try:
        return write_words([run_dir], run_dir)
    except MissingData:
        return None
    except MissingExtra as error:
        log.warning("%s: no words.html; %s", run_dir, error)
        return None


def write_words(run_dirs: Sequence[Path], output: Path, options: WordOptions = WordOptions()) -> Path:
    """Read the scored tokens of all ``run_dirs`` as one; write words.html, words.json and figures; return the page.

    Raises ``MissingData`` where one of the folders has no scored tokens.
    """
    paths = [source_of(run_dir, options.records) for run_dir in run_dirs]
    clouds = Clouds(options.font)
    tagger = make_tagger(options.tagger)
    builder = TokenTableBuilder(tagger)
    output.mkdir(parents=True, exist_ok=True)
    counts = Counts()
    for path in paths:
        for record in scored_records(path, counts, label=f"read {path.name}"):
            builder.add(record)
    with ProgressLine("statistics, figures", 2) as progress:
        table = builder.table()
        statistics = word_statistics(table, options.seed)
        progress.advance()
        figures = write_word_figures(statistics, output / "figures", clouds)
        progress.advance()
    facts: dict[str, Any] = {
        "files": [str(path) for path in paths],
        "completions": counts.scored,
        "completions_without_scores": counts.unscored,
        "lines_left_out": counts.reasons,
        "questions": table.num_questions,
        "tokens": len(table.class_T),
        "signals": list(table.signals),
        "tagger": tagger.name,
        "interval": {"over": "questions", "draws": DRAWS, "confidence": CONFIDENCE, "seed": options.seed},
    }
    write_object(output / "words.json", {**facts, "published": PUBLISHED, **statistics})
    return write_page(
        output / "words.html",
        "words.html",
        title=", ".join(run_dir.resolve().name for run_dir in run_dirs),
        facts=facts,
        statistics=statistics,
        pairs=pair_names(table.signals, ", "),
        published=PUBLISHED,
        names=NAMES,
        figures=figures,
        unwritten=sorted(clouds.unwritten),
    )
