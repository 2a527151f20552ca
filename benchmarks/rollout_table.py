"""What ``benchmarks.rollout`` measured, as a table for the screen and as Markdown."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

COLUMNS = {
    "tokens_per_second": ("tokens/s", "{:.0f}"),
    "speed": ("to transformers", "{:.2f}"),
    "group_seconds": ("a group, s", "{:.3f}"),
    "prefill_share": ("prefill", "{:.0%}"),
    "sharing": ("sharing", "{:.2f}"),
    "cached": ("cached", "{:.0%}"),
    "cached_unshared": ("(unshared)", "{:.0%}"),
}


def table(result: dict[str, Any]) -> Table:
    made = Table(title=_sentence(result["workload"]), title_justify="left")
    for title in _head():
        made.add_column(title, justify="left" if title == "engine" else "right")
    for cells in _rows(result["engines"]):
        made.add_row(*cells)
    return made


def markdown(result: dict[str, Any]) -> str:
    lines = ["# Rollout engines", "", _sentence(result["machine"]), "", _sentence(result["workload"]), ""]
    lines += [f"| {' | '.join(_head())} |", f"|---|{'---:|' * (len(COLUMNS) + 1)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in _rows(result["engines"])]
    if result["overlap"]:
        lines += ["", overlap_sentence(result["overlap"])]
    if result["incidents"]:
        lines += ["", f"Incidents: {result['incidents']}"]
    return "\n".join(lines) + "\n"


def overlap_sentence(figures: dict[str, float]) -> str:
    return (
        f"A training step with two servers: {figures['overlap_0_step_seconds']:.2f} s without overlap "
        f"({figures['rollout_share_without_overlap']:.0%} of it rollouts), "
        f"{figures['overlap_1_step_seconds']:.2f} s with it, a ratio of {figures['overlap_1/overlap_0']:.2f}."
    )


def _head() -> list[str]:
    return ["engine", "G", *(title for title, _ in COLUMNS.values())]


def _rows(figures: dict[str, dict[str, dict[str, float]]]) -> Iterator[list[str]]:
    for name, by_size in figures.items():
        for num_completions, row in by_size.items():
            cells = [form.format(row[key]) if key in row else "–" for key, (_, form) in COLUMNS.items()]
            yield [name, num_completions, *cells]


def _sentence(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())
