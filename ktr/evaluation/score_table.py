"""Accuracies as lines of text."""

from collections.abc import Iterable, Mapping
from typing import Any


def accuracy_lines(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Rows of names and figures as a table, with intervals; a name may have a mean relative accuracy as well."""
    rows = list(rows)
    width = max(len("subtask"), *(len(name) for name, _ in rows))
    lines = [f"{'subtask':{width}}      n  accuracy  95 % interval"]
    for name, figures in rows:
        numbers = figures.get("mra_n", 0)
        for measure, n, what in (
            ("accuracy", figures["n"] - numbers, ""),
            ("mra", numbers, "  mean relative accuracy"),
        ):
            if figures.get(measure) is not None:
                low, high = figures[f"{measure}_low"], figures[f"{measure}_high"]
                value = f"{100 * figures[measure]:8.2f}  {100 * low:5.2f} to {100 * high:5.2f}"
                lines.append(f"{name:{width}}  {n:5}  {value}{what}")
    return lines


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    """The official figure, what became of all items, and what those without a reply change."""
    lines = []
    if summary["official"]["value"] is not None:
        lines.append(f"official ({summary['official']['metric']}): {100 * summary['official']['value']:.2f}")
    lines.append(", ".join(f"{count} {name}" for name, count in summary["outcomes"].items() if count))
    if summary["left_out"]:
        share = 100 * summary["accuracy_of_all"]
        lines.append(f"{summary['left_out']} without a reply are left out; with them as wrong it is {share:.2f}")
    return lines
