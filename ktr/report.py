"""``python -m ktr.report runs/<run> …`` rebuilds the figures and report.html of run folders from their files alone."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ktr.analysis.report import write_report
from ktr.errors import KtrError


def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(prog="python -m ktr.report", description="Rebuild the figures and report.html of runs.")
    parser.add_argument("run_dir", type=Path, nargs="+", help="a run folder: config.yaml, metrics.csv, summary.json …")
    try:
        for run_dir in parser.parse_args(argv).run_dir:
            sys.stdout.write(f"{write_report(run_dir)}\n")
    except KtrError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
