"""``python -m ktr.report runs/<run> …`` rebuilds the figures and report.html of run folders from their files alone.

``python -m ktr.report tables <folder> …`` prints the tables of the runs below each folder, obtained beside published,
and writes them there: table.md, table.tex, table.csv, rows.csv, cost.csv and figures.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

from ktr.config.endings import ending_of
from ktr.errors import KtrError


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        for text in _tables(argv[1:]) if argv[:1] == ["tables"] else _runs(argv):
            sys.stdout.write(f"{text}\n")
    except KtrError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        if (ending := ending_of(error, None)) is None:
            raise
        sys.stderr.write(f"{ending[1]}\n")
        return ending[0]
    return 0


def _runs(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report",
        description="Rebuild the figures and report.html of runs.",
        epilog="python -m ktr.report tables <folder> … prints the tables of the runs below a folder, and writes them.",
    )
    parser.add_argument("run_dir", type=Path, nargs="+", help="a run folder: config.yaml, metrics.csv, summary.json …")
    run_dirs = parser.parse_args(argv).run_dir
    from ktr.analysis.report import write_report  # not above: it loads torch, which a table can do without

    for run_dir in run_dirs:
        yield str(write_report(run_dir))


def _tables(argv: Sequence[str]) -> Iterator[str]:
    parser = ArgumentParser(
        prog="python -m ktr.report tables",
        description="Print the tables of the runs below a folder, obtained beside published, and write them there.",
    )
    parser.add_argument("folder", type=Path, nargs="+", help="a folder with runs below it, such as runs/table/signals")
    folders = parser.parse_args(argv).folder
    from ktr.tables.files import report_tables

    for folder in folders:
        text, written = report_tables(folder)
        yield text
        yield from (str(path) for path in written if path.name == "table.md")


if __name__ == "__main__":
    raise SystemExit(main())
