"""``python -m ktr.report runs/<run> …`` rebuilds all pages of run folders from their files alone.

They are report.html and, where tokens were scored, words.html (see ``words`` below); of an evaluation wrong.html.
``run`` may stand before them.

``python -m ktr.report compare runs/<a> runs/<b> …`` writes compare.html, several runs on the same axes, and the words
of each run; of evaluations the items gained and lost, with tests.

``python -m ktr.report leaderboard <folder> …`` prints models by benchmarks from the results below folders, published
rows beside, and writes leaderboard.html, leaderboard.md, leaderboard.tex and figures into ./leaderboard.

``python -m ktr.report tables <folder> …`` prints the tables of the runs below each folder, obtained beside published,
and writes them there: table.md, table.tex, table.csv, rows.csv, cost.csv and figures. Results of evaluations below it,
or below ``--results``, fill the benchmarks of the runs whose policy was asked, ``--label gpt_4o=<folder>`` those of a
published row.

``python -m ktr.report gradients <folder>`` prints the paper's figure of gradients from the runs below a folder.

``python -m ktr.report words runs/<run> …`` writes words.html, words.json and figures: which words the signals select.

``python -m ktr.report cases <run> <run>`` shows the held-out questions on which two policies differ most, side by side.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ktr.config.endings import write_lines


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    command = COMMANDS.get(argv[0]) if argv else None
    return write_lines(lambda: command(argv[1:]) if command else _runs(argv))


def _runs(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report",
        description="Rebuild the figures, report.html and words.html of runs.",
        epilog="python -m ktr.report compare <run folder> … draws several runs on one page; "
        "python -m ktr.report leaderboard <folder> … prints models by benchmarks; "
        "python -m ktr.report tables <folder> … prints the tables of the runs below a folder, and writes them; "
        "python -m ktr.report words <run folder> … writes which words the signals select; "
        "python -m ktr.report cases <run> <run> shows the questions on which two policies differ most.",
    )
    parser.add_argument(
        "run_dir",
        type=Path,
        nargs="+",
        help="a run folder: config.yaml, metrics.csv, summary.json …; or an evaluation's",
    )
    for run_dir in parser.parse_args(argv).run_dir:
        yield from map(str, _pages_of_evaluation(run_dir) if _is_evaluation(run_dir) else _pages_of_run(run_dir))


def _pages_of_run(run_dir: Path) -> Iterator[Path]:
    from ktr.analysis.report import write_report  # not above: it loads torch, which a table can do without
    from ktr.analysis.words.words_page import words_of_run

    if words := words_of_run(run_dir):
        yield words
    yield write_report(run_dir)


def _pages_of_evaluation(run_dir: Path) -> Iterator[Path]:
    from ktr.evaluation.reports.answers_page import write_answers_page

    yield write_answers_page(run_dir)


def _is_evaluation(folder: Path) -> bool:
    return (folder / "items.jsonl").is_file()


def _tables(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report tables",
        description="Print the tables of the runs below a folder, obtained beside published, and write them there.",
    )
    parser.add_argument("folder", type=Path, nargs="+", help="a folder with runs below it, such as runs/table/signals")
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[],
        help="folders of evaluations; those below the folder, if not given",
    )
    parser.add_argument(
        "--label",
        metavar="row=folder",
        action="append",
        default=[],
        help="the evaluations of a published row: gpt_4o=…",
    )
    arguments = parser.parse_args(argv)
    if wrong := [text for text in arguments.label if "=" not in text]:
        parser.error(f"--label {wrong[0]}: give row=folder, such as gpt_4o=runs/<name>")
    labels: dict[str, list[Path]] = {}
    for row, _, place in (text.partition("=") for text in arguments.label):
        labels.setdefault(row, []).append(Path(place))
    from ktr.evaluation.reports.table_results import measured_of
    from ktr.tables.files import report_tables

    for folder in arguments.folder:
        text, written = report_tables(folder, measured_of(folder, arguments.results, labels))
        yield text
        yield from (str(path) for path in written if path.name == "table.md")


def _compare(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report compare",
        description="Draw the curves of several runs on the same axes, and their figures at the end side by side; of "
        "evaluations, tell each against the first, item by item.",
    )
    parser.add_argument("run_dir", type=Path, nargs="+", help="run folders, finished or not; or all of evaluations")
    parser.add_argument("--output", type=Path, default=Path("compare.html"), help="compare.html here, if not given")
    arguments = parser.parse_args(argv)
    if all(map(_is_evaluation, arguments.run_dir)):
        from ktr.evaluation.reports.pairs_page import write_pairs

        yield from _texts_and_paths([write_pairs(arguments.run_dir, arguments.output)])
        return
    from ktr.analysis.compare import write_comparison
    from ktr.analysis.words.words_page import words_of_run

    yield from (str(words) for words in map(words_of_run, arguments.run_dir) if words)
    yield str(write_comparison(arguments.run_dir, arguments.output))


def _leaderboard(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report leaderboard",
        description="Print a table of models by benchmarks from the results below folders, published rows beside.",
    )
    parser.add_argument("folder", type=Path, nargs="+", help="a folder with results.json in it, or somewhere below")
    parser.add_argument(
        "--output", type=Path, default=Path("leaderboard"), help="a folder; ./leaderboard, if not given"
    )
    arguments = parser.parse_args(argv)
    from ktr.evaluation.reports.leaderboard_files import write_leaderboard

    yield from _texts_and_paths([write_leaderboard(arguments.folder, arguments.output)])


def _gradients(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report gradients",
        description="Print norms, cosines and loss variance of the runs below a folder by table row, beside published.",
    )
    parser.add_argument("folder", type=Path, nargs="+", help="a folder with runs below it: runs/table/gradients")
    folders = parser.parse_args(argv).folder
    from ktr.analysis.gradient_table import write_gradient_table

    yield from _texts_and_paths(map(write_gradient_table, folders))


def _specificity(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report specificity",
        description="Print how well each signal of a run finds the words that it should, against the ground truth.",
    )
    parser.add_argument("run_dir", type=Path, nargs="+", help="a run of ktr.attribute on an embedded world")
    run_dirs = parser.parse_args(argv).run_dir
    from ktr.analysis.specificity import write_specificity

    yield from _texts_and_paths(map(write_specificity, run_dirs))


def _texts_and_paths(written: Iterable[tuple[str, Path]]) -> Iterator[str]:
    for text, path in written:
        yield text
        yield str(path)


def _words(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report words",
        description="Write words.html, words.json and figures into each run folder: which words the signals select.",
        epilog="Options: output=<folder>, one page of all runs together; tagger=textblob, spacy, spacy:<model> or "
        "module.Class; records=rollouts or attribution; font=<file> for the clouds; seed=<number> of the bootstrap.",
    )
    parser.add_argument("argument", metavar="run_dir", nargs="+", help="a folder with rollouts.jsonl, or an option")
    from ktr.analysis.words.words_page import words_pages

    yield from map(str, words_pages(parser.parse_args(argv).argument))


def _cases(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report cases",
        description="Show the held-out questions on which two policies differ most in reward, side by side.",
    )
    parser.add_argument("run", type=Path, nargs=2, help="a run folder with attribution.jsonl, or such a file")
    parser.add_argument("--limit", type=int, default=8, help="how many questions at most (8)")
    parser.add_argument(
        "--output", type=Path, default=Path("cases.html"), help="the page; its data beside it, as .json"
    )
    options = parser.parse_args(argv)
    if options.limit < 1 or options.output.suffix != ".html":
        parser.error("--limit is at least 1, and --output an .html file")
    from ktr.analysis.cases import write_case_studies

    first, second = options.run
    yield str(write_case_studies(first, second, options.output, options.limit))


COMMANDS: Mapping[str, Callable[[Sequence[str]], Iterator[str]]] = {
    "run": _runs,
    "compare": _compare,
    "leaderboard": _leaderboard,
    "gradients": _gradients,
    "specificity": _specificity,
    "tables": _tables,
    "words": _words,
    "cases": _cases,
}

if __name__ == "__main__":
    raise SystemExit(main())
