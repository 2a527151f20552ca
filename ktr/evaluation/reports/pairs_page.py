"""compare.html of evaluations: each against the first, and the items gained and lost with frames and both answers."""

from collections.abc import Sequence
from pathlib import Path

from ktr.analysis.html import write_page
from ktr.errors import MissingData
from ktr.evaluation.reports.pairs import (
    Comparison,
    compare_evaluations,
    comparison_grid,
    comparison_notes,
    read_evaluations,
)
from ktr.evaluation.reports.shown_items import ShownItem, in_turn, shown_item, strips_of
from ktr.tables.console import grid_console

MAX_ITEMS = 60  # of the page, shared by all comparisons


def write_pairs(folders: Sequence[Path], output: Path) -> tuple[str, Path]:
    """Compare each evaluation with the first; return the text, what differs first, and the page's path.

    Raises ``MissingData`` where a folder holds no evaluation, ``InputError`` where two cannot be compared.
    """
    if len(folders) < 2:
        raise MissingData("compare: name two folders of evaluations at least")
    first, *others = read_evaluations(folders)
    comparisons = [compare_evaluations(first, other) for other in others]
    share = MAX_ITEMS // len(comparisons)
    page = write_page(
        output,
        "pairs.html",
        title=f"{', '.join(other.title for other in others)} against {first.title}",
        benchmark=first.identity["benchmark"]["name"],
        comparisons=comparisons,
        grids=[comparison_grid(comparison) for comparison in comparisons],
        notes=[[*comparison_notes(comparison)] for comparison in comparisons],
        items=[item for comparison in comparisons for item in shown_changes(comparison, share)],
    )
    return "\n".join(map(_text, comparisons)), page


def shown_changes(comparison: Comparison, limit: int) -> list[ShownItem]:
    """Items gained and lost, in turn, and of each the subtasks in turn."""
    changes = {way: in_turn(comparison.changed(way == "gained").values()) for way in ("gained", "lost")}
    tagged = in_turn([[(way, pair) for pair in pairs] for way, pairs in changes.items()], limit)
    strips = strips_of(pair[0] for _, pair in tagged)
    titles = comparison.first, comparison.second
    return [
        shown_item(
            dict(zip(titles, pair, strict=True)),
            {"change": way, "subtask": pair[0]["subtask"], "run": comparison.second},
            strips[pair[0]["id"]],
        )
        for way, pair in tagged
    ]


def _text(comparison: Comparison) -> str:
    lines = [f"{comparison.second} against {comparison.first}"]
    lines += [f"differs in {text}" for text in comparison.differing] or ["asked alike, of the same model"]
    lines += [grid_console(comparison_grid(comparison)).rstrip(), *comparison_notes(comparison), ""]
    return "\n".join(lines)
