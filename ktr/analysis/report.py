"""report.html of a run: one self-contained page, without scripts, built from the files of the run folder alone."""

from pathlib import Path

from ktr.analysis.figures import write_figures
from ktr.analysis.filmstrip import write_filmstrips
from ktr.analysis.page import page_environment
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.shown_questions import shown_questions
from ktr.analysis.shown_tokens import legend, shown_tokens
from ktr.record.json_file import write_whole


def write_report(run_dir: Path) -> Path:
    """Rebuild the figures and report.html of a run folder; return the report's path.

    Parts that a run left no data for (no signals, no ground truth, not finished) are left out. Raises ``MissingData``
    where the folder holds no run.
    """
    run = RunFolder.read(run_dir)
    questions = shown_questions(run)
    shown = [records for group in questions.values() for records in group]
    environment = page_environment()
    environment.filters["tokens"] = shown_tokens
    page = environment.get_template("report.html").render(
        run=run,
        figures=write_figures(run),
        questions=questions,
        strips=write_filmstrips(run_dir / "figures", [records[0] for records in shown]),
        legend=legend(run.signals, any("roles" in record for records in shown for record in records)),
    )
    path = run_dir / "report.html"
    write_whole(path, page)
    return path
