"""What a run found: results.json, and the table that is printed, beside published numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig

from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.rules.outcome import Judgement, Outcome
from ktr.evaluation.score_table import accuracy_lines, closing_lines
from ktr.evaluation.scores import Scored, summarize
from ktr.tables.published import published

COLUMNS = {
    "video_holmes": "video_holmes", "video_mmmu": "video_mmmu", "mmvu": "mmvu_mc", "tempcompass": "tempcompass",
    "tempcompass_mc": "tempcompass", "videomme": "videomme",
}  # fmt: skip

REASONS = 5


def scored_of(line: Line, subtask: str | None = None) -> Scored:
    """The judged item of a line; ``subtask`` takes the place of its own."""
    return Scored(
        id=line["id"],
        judgement=Judgement(line["prediction"], Outcome(line["outcome"]), line["score"]),
        subtask=line["subtask"] if subtask is None else subtask,
        video=line["video"],
        is_regression=line["problem_type"] == "regression",
    )


def results(name: str, identity: Mapping[str, Any], lines: Sequence[Line], metric: str) -> dict[str, Any]:
    """All figures of a run's lines; see ``scores.summarize`` for those of ``summary`` and of each of ``groups``."""
    names = sorted({group for line in lines for group in line["groups"]})
    by_group = {
        group: summarize([scored_of(line, line["groups"].get(group, "")) for line in lines])["by_subtask"]
        for group in names
    }
    asked = [line for line in lines if "num_frames" in line]
    frames = [max(line["num_frames"]) for line in asked if line["num_frames"]]
    costs = [line["cost"] for line in asked if line["cost"] is not None]
    return {
        "name": name,
        "benchmark": identity["benchmark"]["name"],
        "identity": dict(identity),
        "summary": summarize([scored_of(line) for line in lines], metric),
        "groups": by_group,
        "num_frames": fmean(frames) if frames else None,
        "prompt_tokens": sum(line["prompt_tokens"] for line in asked),
        "completion_tokens": sum(line["completion_tokens"] for line in asked),
        "seconds": round(sum(line["seconds"] for line in asked), 2),
        "cost": sum(costs) if costs else None,
        "reasons": [f"{line['id']}: {line['reason']}" for line in lines if line["output"] is None][:REASONS],
        "published": published_of(identity["benchmark"]["name"]),
    }


def model_of(config: DictConfig) -> dict[str, str | None]:
    """Who was asked, which no identity says: ``model``, a policy's folder or a served model's name; and ``adapter``."""
    if config.endpoint is not None:
        return {"model": config.endpoint.model, "adapter": None}
    named = {"model": config.model.path, "adapter": config.model.get("adapter")}
    return {key: None if value is None else str(Path(value).absolute()) for key, value in named.items()}


def published_of(benchmark: str) -> dict[str, float]:
    """What is published of a benchmark, by model, in percent: the column of the paper's first table."""
    column = COLUMNS.get(benchmark)
    table = published("main")
    if column is None:
        return {}
    values = {table.models.get(row, row): row_values[column] for row, row_values in table.rows.items()}
    return {model: value for model, value in values.items() if value is not None}


def table(result: Mapping[str, Any]) -> str:
    """Accuracies by subtask and by group, what became of the items, and what is published."""
    summary = result["summary"]
    lines = [f"{result['benchmark']}, rule {result['identity']['rule']}: {result['name']}"]
    rows = [(name or "-", figures) for name, figures in summary["by_subtask"].items()]
    groups = [
        (f"{group}: {name or '-'}", figures) for group, of in result["groups"].items() for name, figures in of.items()
    ]
    lines += accuracy_lines([*(rows if len(rows) > 1 else []), *groups, ("all", summary)])
    lines += closing_lines(summary)
    lines += [f"  {reason}" for reason in result["reasons"]]
    if result["cost"] is not None:
        lines.append(f"cost: {result['cost']:.2f} dollars")
    if result["published"]:
        told = ", ".join(f"{model} {value:.1f}" for model, value in result["published"].items())
        lines.append(f"published: {told}")
    return "\n".join(lines)
