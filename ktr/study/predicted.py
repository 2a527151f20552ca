r"""``python -m ktr.study.predicted runs/<study> runs/table/controls``: whether a study says in what order rules learn.

With s, o and n a rule's ⟨E g_S, E g⟩, ‖E g_S‖² and tr Cov g_S of a group, over ‖E g‖² each, an update of N groups is

    c_S(N) = s / √(o + n / N)          the expected gradient of all tokens along it, over its root mean square length

AdamW divides by the root of what one step's gradients square to: its update is predicted to come c_S(N) further, N the
questions of a step. An update of matched length goes by the direction of the mean that AdamW holds, which is over
N · (1 + β₁)/(1 − β₁) groups. All in AdamW's metric, and over the prediction for all tokens. What was obtained is the
training accuracy over all updates of questions that were met once, before their update. The rank correlation
(Spearman's) has the percentiles of a bootstrap that draws rows and seeds.
"""

import math
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ktr.analysis import palette
from ktr.analysis.figure_style import STYLE, WIDTH
from ktr.analysis.statistics import MeanInterval, mean_interval
from ktr.config.endings import write_lines
from ktr.errors import MissingData
from ktr.record.json_file import read_object, write_whole
from ktr.study.estimates import CONFIDENCE, DRAWS
from ktr.study.parts import ALL, RANDOM, REST, SAME_PLACES
from ktr.tables.console import grid_console
from ktr.tables.grids import NONE, Grid
from ktr.tables.markdown import grid_markdown
from ktr.tables.runs import TableRun, find_tables

MIN_ROWS = 4  # of fewer an order says nothing
RULES = {  # of the rows of table/controls and table/signals
    "grpo": ALL, "vet": "visual+entropy+temporal", "v": "visual", "t": "temporal", "e": "entropy",
    "vt": "visual+temporal", "et": "entropy+temporal", "ve": "visual+entropy",
    "vet_random": RANDOM, "vet_random_positions": SAME_PLACES, "vet_rest": REST,
    "video_words": "video words", "video_words_decisions": "video words, decisions",
    "video_words_decisions_tags": "video words, decisions, tags",
    "all_but_prose": "all but prose", "all_but_answer": "all but the answer",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A row of a table: what the study says of its rule, and the training accuracy of each seed in percent."""

    row: str
    rule: str
    predicted: float
    obtained: Mapping[int, float]

    @property
    def mean(self) -> MeanInterval:
        return mean_interval(list(self.obtained.values()))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's, with its interval."""

    value: float
    low: float
    high: float


def outcomes(study: Path, table: Path, rules: Mapping[str, str] = RULES) -> list[Outcome]:
    """The rows of the table whose rule the study has, best prediction first. Raises ``MissingData`` on too few."""
    found = read_object(study / "study.json")
    if found is None:
        raise MissingData(f"{study}: no study.json; name the folder that python -m ktr.study printed")
    measured = {name: of for rules_of in found["rules"]["adamw"].values() for name, of in rules_of.items()}
    (runs, *others) = find_tables(table)
    if others:
        raise MissingData(f"{table}: runs of several tables; name the folder of one")
    of_rows = []
    for row, of_row in runs.rows.items():
        curves = {run.seed: run.steps("metrics.csv", "reward/accuracy") for run in of_row if run.summary is not None}
        if rules.get(row) in measured and curves and all(curves.values()):
            obtained = {seed: 100 * sum(curve.values()) / len(curve) for seed, curve in curves.items()}
            predicted = [_predicted(measured[of], measured[ALL], of_row[0]) for of in (rules[row], ALL)]
            of_rows.append(Outcome(row, rules[row], predicted[0] / predicted[1], obtained))
    if len(of_rows) < MIN_ROWS:
        raise MissingData(
            f"{table}: {len(of_rows)} finished rows with a rule of {study}; an order needs {MIN_ROWS} at least "
            f"(rows that are known: {', '.join(rules)})"
        )
    return sorted(of_rows, key=lambda outcome: -outcome.predicted)


def rank_correlation(rows: Sequence[Outcome], seed: int = 0) -> RankCorrelation:
    """Of predictions with mean accuracies, over the seeds that all rows have."""
    from scipy.stats import rankdata  # not above: it takes a second to load

    seeds = sorted(set.intersection(*(set(row.obtained) for row in rows)))
    if not seeds:
        raise MissingData("the rows have no seed in common; run the same seeds of each")
    predicted_K = np.array([row.predicted for row in rows])
    obtained_KS = np.array([[row.obtained[seed] for seed in seeds] for row in rows])
    num_rows, num_seeds = obtained_KS.shape
    generator = np.random.default_rng(seed)
    rows_RK = np.vstack([np.arange(num_rows), generator.integers(num_rows, size=(DRAWS, num_rows))])
    seeds_RS = np.vstack([np.arange(num_seeds), generator.integers(num_seeds, size=(DRAWS, num_seeds))])
    obtained_RK = np.take_along_axis(obtained_KS[:, seeds_RS].mean(2).T, rows_RK, axis=1)
    one_RK, other_RK = (rankdata(of_RK, axis=1) - (num_rows + 1) / 2 for of_RK in (predicted_K[rows_RK], obtained_RK))
    with np.errstate(invalid="ignore"):  # a draw of one row alone has no order
        found_R = (one_RK * other_RK).sum(1) / np.sqrt((one_RK**2).sum(1) * (other_RK**2).sum(1))
    low, high = np.nanquantile(found_R[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return RankCorrelation(float(found_R[0]), float(low), float(high))


def write_prediction(study: Path, table: Path) -> str:
    """Write predicted.md and figures/predicted.png into the table's folder; return the table as text."""
    rows = outcomes(study, table)
    found = rank_correlation(rows)
    grid = _grid(rows)
    said = (
        f"Rank correlation of prediction and training accuracy: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}] "
        f"({len(rows)} rows; {100 * CONFIDENCE:.0f} % interval of a bootstrap over rows and seeds)."
    )
    folder = table / "figures"
    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        draw_prediction(rows).savefig(folder / "predicted.png")
    title = f"# What {study.name} predicts of {table.name}"
    write_whole(
        table / "predicted.md", f"{title}\n\n{grid_markdown(grid)}\n\n{said}\n\n![predicted](figures/predicted.png)\n"
    )
    return f"{grid_console(grid)}\n{said}\n{table / 'predicted.md'}"


def draw_prediction(rows: Sequence[Outcome]) -> Figure:
    """Training accuracy against the prediction, a point a row."""
    figure = Figure(figsize=(WIDTH * 0.7, 3.8), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        mean = row.mean
        if mean.half_width is not None:
            ends = [mean.mean - mean.half_width, mean.mean + mean.half_width]
            axes.plot([row.predicted] * 2, ends, color=palette.MUTED, linewidth=1)
        axes.plot(row.predicted, mean.mean, "o", color=palette.AFTER, markersize=4)
        axes.annotate(row.row, (row.predicted, mean.mean), xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("predicted progress of an update, of all tokens' (AdamW's metric)")
    axes.set_ylabel("training accuracy, mean of all updates (%)")
    return figure


def _predicted(of: Mapping[str, Any], whole: Mapping[str, Any], run: TableRun) -> float:
    groups_of_all, signal, lost = (_number(value["value"]) for value in (whole["groups"], of["signal"], of["lost"]))
    own = max(0.0, lost + 2 * signal - 1)
    num_groups = float(run.config["data"]["questions_per_step"])
    optimizer = run.config["optimizer"]
    if optimizer["_target_"].endswith(".MatchedAdamWCosine"):
        beta = float(optimizer["betas"][0])
        num_groups *= (1 + beta) / (1 - beta)
    length = own + of["noise"]["value"] * groups_of_all / num_groups
    return signal / math.sqrt(length) if length > 0 else 0.0  # of a rule that takes no token


def _number(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        raise MissingData("the study cannot tell the whole gradient from zero: nothing follows from shares of it")
    return value


def _grid(rows: Sequence[Outcome]) -> Grid:
    order = sorted(rows, key=lambda row: -row.mean.mean)
    cells = []
    for place, row in enumerate(rows, 1):
        mean = row.mean
        half = NONE if mean.half_width is None else f"{mean.half_width:.1f}"
        obtained = [f"{mean.mean:.1f} ± {half}", str(order.index(row) + 1), str(mean.n)]
        cells.append([row.row, row.rule, f"{row.predicted:.2f}", str(place), *obtained])
    columns = ["row", "rule", "predicted, of all's", "rank", "training accuracy", "rank", "seeds"]
    return Grid(columns, cells)


def main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(
        prog="python -m ktr.study.predicted",
        description="Compare what a study says of rules with how fast the rows of a table learned.",
    )
    parser.add_argument("study", type=Path, help="a study's folder, with study.json")
    parser.add_argument("table", type=Path, help="the folder of a table's runs, such as runs/table/controls")
    arguments = parser.parse_args(argv)
    return write_lines(lambda: [write_prediction(arguments.study, arguments.table)])


if __name__ == "__main__":
    sys.exit(main())
