"""report.html of a run: one self-contained page, without scripts, built from the files of the run folder alone."""

from functools import partial
from pathlib import Path

from ktr.analysis.attribution_summary import pair_names
from ktr.analysis.figures import write_figures
from ktr.analysis.filmstrip import strip_name, write_filmstrips
from ktr.analysis.html import write_page
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.shown_questions import shown_questions
from ktr.analysis.shown_tokens import legend, shown_tokens


def write_report(run_dir: Path) -> Path:
    """Rebuild the figures and report.html of a run folder; return the report's path.

    Parts that a run left no data for (no signals, no ground truth, not finished) are left out. Raises ``MissingData``
    where the folder holds no run.
    """
    run = RunFolder.read(run_dir)
    questions = shown_questions(run)
    shown = [records for group in questions.values() for records in group]
    return write_page(
        run_dir / "report.html",
        "report.html",
        tokens=partial(shown_tokens, signals=run.signals),
        run=run,
        figures=write_figures(run),
        pairs=pair_names(sorted(run.summary.get("attribution", {}).get("selected_fraction", ())), " and "),
        questions=questions,
        words="words.html" if (run_dir / "words.html").is_file() else None,
        strips=write_filmstrips(run_dir / "figures", [records[0] for records in shown]),
        strip_name=strip_name,
        legend=legend(run.signals, any("roles" in record for records in shown for record in records)),
    )
