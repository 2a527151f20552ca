"""What a study found, as study.json, table.md, figures and report.html."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ktr.analysis.html import write_json, write_page
from ktr.record.json_file import write_whole
from ktr.study.estimates import CONFIDENCE, DRAWS, Estimate, RuleEstimates, Whole, as_numbers
from ktr.study.figures import write_study_figures
from ktr.study.parts import OTHER
from ktr.tables.console import grid_console
from ktr.tables.grids import MINUS, NONE, Grid
from ktr.tables.markdown import grid_markdown

SECTIONS = ("kinds", "signals", "controls", "others", "oracles", "curve", "whole")
METRICS = {"gradient": "In the gradient's own metric", "adamw": "In AdamW's metric"}


@dataclass(frozen=True)
class Findings:
    """The numbers of a study. ``whole`` and ``rules`` by metric, the latter by section and rule."""

    name: str
    num_groups: int
    num_teaching: int
    num_completions: int
    groups_per_batch: int
    mean_reward: float
    parts_error: float
    seconds: float
    token_shares: Mapping[str, float]
    whole: Mapping[str, Whole]
    rules: Mapping[str, Mapping[str, Mapping[str, RuleEstimates]]]

    def shown(self, metric: str) -> dict[str, RuleEstimates]:
        """The rules of a metric in the order of the table, without words of no kind where there are none."""
        sections = self.rules[metric]
        rules = {name: of for section in SECTIONS for name, of in sections.get(section, {}).items()}
        return {name: of for name, of in rules.items() if name != OTHER or self.token_shares[OTHER] > 0}


def write_findings(run_dir: Path, findings: Findings) -> str:
    """Write all files of a study into its folder; return the tables as text for the console."""
    grids = {title: findings_grid(findings, metric) for metric, title in METRICS.items()}
    notes = findings_notes(findings)
    write_json(run_dir / "study.json", _as_object(findings))
    figures = write_study_figures(run_dir / "figures", findings.rules["gradient"], findings.token_shares)
    markdown = [f"## {title}\n\n{grid_markdown(grid)}" for title, grid in grids.items()]
    markdown += ["\n".join(f"- {note}" for note in notes)]
    markdown += [f"![{name}](figures/{path.name})" for name, path in figures.items()]
    write_whole(run_dir / "table.md", "\n\n".join([f"# {findings.name}", *markdown]) + "\n")
    write_page(
        run_dir / "report.html",
        "tables.html",
        title=f"{findings.name}: study",
        grids=grids,
        notes=notes,
        figures=figures,
    )
    text = [f"{title}\n{grid_console(grid)}" for title, grid in grids.items()]
    return "\n".join([*text, *(f"- {note}" for note in notes)])


def findings_grid(findings: Findings, metric: str) -> Grid:
    columns = ["tokens", "share of tokens", "signal", "noise", "groups for signal = noise", "lost", "cosine"]
    rows = []
    for name, of in findings.shown(metric).items():
        cells = [_percent(of.signal), _percent(of.noise), _groups(of.groups), _percent(of.lost), _decimals(of.cosine)]
        rows.append([name, f"{100 * findings.token_shares[name]:.0f}", *cells])
    return Grid(columns, rows)


def findings_notes(findings: Findings) -> list[str]:
    """What a reader of the table must know, a sentence or two each."""
    notes = [
        f"{findings.num_groups} groups of {findings.num_completions}, of which {findings.num_teaching} have unequal "
        f"rewards; mean reward {findings.mean_reward:.3f}. No update was made.",
        "Signal: the share of the squared expected gradient, from pairs of different batches. Noise: the trace of the "
        "covariance between groups, of the whole's. Lost: ‖E g − E g_S‖² / ‖E g‖². All in percent. Shares of the "
        "signal of kinds add up, those of noise need not, for kinds vary together.",
        f"Brackets: {100 * CONFIDENCE:.0f} % intervals of a bootstrap ({DRAWS} draws) over batches of "
        f"{findings.groups_per_batch} questions. Shares of tokens are of groups with unequal rewards. Kinds add up "
        f"to the whole to {findings.parts_error:.0e}.",
        "AdamW's metric divides each coordinate by the root of the mean square of the whole gradient in batches of "
        "these groups, the same for every rule.",
    ]
    for metric, whole in findings.whole.items():
        if not whole.is_told:
            about = f"; about {whole.groups_to_tell:.0f} groups would do" if math.isfinite(whole.groups_to_tell) else ""
            notes.append(
                f"{METRICS[metric]} the whole gradient is not told from zero{about}: shares of it mean nothing."
            )
    return notes


def _as_object(findings: Findings) -> dict[str, object]:
    """study.json: None stands for what the data does not bound."""
    rules = {
        metric: {section: {name: as_numbers(of) for name, of in rules.items()} for section, rules in sections.items()}
        for metric, sections in findings.rules.items()
    }
    whole = {metric: vars(of) | {"signal": vars(of.signal)} for metric, of in findings.whole.items()}
    return vars(findings) | {"rules": rules, "whole": whole}


def _percent(estimate: Estimate) -> str:
    return _cell(estimate, lambda value: _signed(f"{100 * value:.0f}"))


def _decimals(estimate: Estimate) -> str:
    return _cell(estimate, lambda value: _signed(f"{value:.2f}"))


def _groups(estimate: Estimate) -> str:
    return _cell(estimate, lambda value: f"{value:.0f}" if value < 9999.5 else f"{value:.0e}")


def _signed(text: str) -> str:
    return text.replace("-", MINUS) if text.strip("-0.") else text.strip("-")


def _cell(estimate: Estimate, shown) -> str:
    low, high = (shown(end) if math.isfinite(end) else NONE for end in (estimate.low, estimate.high))
    value = shown(estimate.value) if math.isfinite(estimate.value) else NONE
    return value if low == high == NONE else f"{value} [{low}, {high}]"
