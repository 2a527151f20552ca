"""report.html of a run: one self-contained page, without scripts, built from the files of the run folder alone."""

from importlib.resources import files
from pathlib import Path

from ktr.analysis import report_sections as sections
from ktr.analysis.figures import write_figures
from ktr.analysis.markup import Markup, element, embedded_image
from ktr.analysis.run_folder import RunFolder
from ktr.analysis.shown_completions import shown_completions


def write_report(run_dir: Path) -> Path:
    """Rebuild the figures and report.html of a run folder; return the report's path.

    Parts that a run left no data for (no signals, no ground truth, not finished) are left out. Raises ``MissingData``
    where the folder holds no run.
    """
    run = RunFolder.read(run_dir)
    images = {name: embedded_image(path, name, class_="figure") for name, path in write_figures(run).items()}
    body = element(
        "main",
        sections.headline(run),
        sections.accuracy(run, images),
        sections.training(images),
        sections.selection(run, images),
        sections.ground_truth(run, images),
        shown_completions(run),
        sections.interventions(run),
        sections.throughput(run, images),
        sections.record(run),
    )
    style = files("ktr.analysis").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{run.name}: report"),
        element("style", Markup(style)),
    )
    path = run_dir / "report.html"
    page = element("html", head, element("body", body), lang="en")
    path.write_text(f"<!doctype html>\n{page}\n", encoding="utf-8")
    return path
