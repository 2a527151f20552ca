"""Two evaluations of one benchmark, item by item: what the second gained and lost, in all and by subtask."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ktr.errors import InputError, MissingData
from ktr.evaluation.asking.identity import differences
from ktr.evaluation.asking.items_file import Line, read_lines
from ktr.evaluation.asking.results import scored_of
from ktr.evaluation.compare import Compared, compare
from ktr.evaluation.rules.outcome import WITHOUT_REPLY, Outcome
from ktr.record.json_file import read_object
from ktr.tables.grids import MINUS, Grid

SAME_QUESTION = ("question", "options", "answer", "problem_type", "start", "end")
DRAWS, DRAWS_OF_A_SUBTASK = 10_000, 2_000
Pair = tuple[Line, Line]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation's folder holds, finished or not: its lines by id, and its identity; ``title`` names it."""

    title: str
    lines: Mapping[str, Line]
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The second evaluation against the first, by the ``pairs`` of lines that both answered.

    ``differing`` is what their identities differ in; ``left_out`` says which items are in no pair, and why.
    """

    first: str
    second: str
    differing: tuple[str, ...]
    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...]
    whole: Compared
    by_subtask: Mapping[str, Compared]

    def changed(self, gained: bool) -> dict[str, list[Pair]]:
        """By subtask the items that only the second has right; those that only the first has, if not ``gained``."""
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            if tuple(line["outcome"] == Outcome.RIGHT for line in pair) == (not gained, gained):
                found.setdefault(pair[0]["subtask"], []).append(pair)
        return found


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """The evaluations, named as their folders. Raises ``MissingData`` where one has no items or no identity."""
    names = [folder.resolve().name for folder in folders]
    read = []
    for name, folder in zip(names, folders, strict=True):
        identity = (read_object(folder / "results.json") or {}).get("identity") or read_object(folder / "identity.json")
        if identity is None:
            raise MissingData(f"{folder}: no identity.json; name a folder of python -m ktr.evaluate benchmark=…")
        lines = {line["id"]: line for line in read_lines(folder)}
        read.append(Evaluation(name if names.count(name) == 1 else str(folder), lines, identity))
    return read


def compare_evaluations(first: Evaluation, second: Evaluation) -> Comparison:
    """Items are paired by id. Raises ``InputError`` where the benchmarks are two, or no item was answered by both."""
    names = [evaluation.identity["benchmark"]["name"] for evaluation in (first, second)]
    if names[0] != names[1]:
        raise InputError(f"{first.title} is of the benchmark {names[0]}, {second.title} of {names[1]}: name two of one")
    common = [(line, second.lines[id]) for id, line in first.lines.items() if id in second.lines]
    same = [pair for pair in common if all(pair[0][key] == pair[1][key] for key in SAME_QUESTION)]
    pairs = [pair for pair in same if not any(line["outcome"] in WITHOUT_REPLY for line in pair)]
    if not pairs:
        raise InputError(
            f"{first.title} and {second.title} have no item that both answered: name two on the same items"
        )
    left_out = {
        f"that {first.title} alone has": len(first.lines) - len(common),
        f"that {second.title} alone has": len(second.lines) - len(common),
        "whose id has another question in each": len(common) - len(same),
        "without a reply in one of them": len(same) - len(pairs),
    }
    by_subtask = {
        name: _compared([pair for pair in pairs if pair[0]["subtask"] == name], DRAWS_OF_A_SUBTASK)
        for name in sorted({line["subtask"] for line, _ in pairs})
    }
    return Comparison(
        first.title,
        second.title,
        tuple(differences(first.identity, second.identity)),
        tuple(pairs),
        tuple(f"{count} items {what}" for what, count in left_out.items() if count),
        _compared(pairs, DRAWS),
        by_subtask if len(by_subtask) > 1 else {},
    )


def comparison_grid(comparison: Comparison) -> Grid:
    """A row a subtask, the last one all of them."""
    columns = ["subtask", "n", "videos", comparison.first, comparison.second, "gained", "lost", "difference"]
    rows = [
        [name, *_cells(compared, [pair for pair in comparison.pairs if pair[0]["subtask"] == name])]
        for name, compared in comparison.by_subtask.items()
    ]
    return Grid([*columns, "95 % interval", "p"], [*rows, ["all", *_cells(comparison.whole, comparison.pairs)]])


def comparison_notes(comparison: Comparison) -> Iterator[str]:
    """What a reader of the grid must know, one sentence each."""
    yield (
        f"Gained: {comparison.second} alone has it right; lost: {comparison.first} alone. p is McNemar's, exact; the "
        "difference is that of the mean scores, in points, its interval a bootstrap over videos."
    )
    if comparison.by_subtask:
        yield "The p of subtasks are not corrected for their number."
    if comparison.left_out:
        yield f"Left out: {'; '.join(comparison.left_out)}."


def _compared(pairs: Sequence[Pair], draws: int) -> Compared:
    before, after = ([scored_of(line) for line in lines] for lines in zip(*pairs, strict=True))
    return compare(before, after, draws)


def _cells(compared: Compared, pairs: Sequence[Pair]) -> list[str]:
    return [
        f"{compared.n}",
        f"{compared.num_videos}",
        *(f"{100 * fmean(line['score'] for line in lines):.1f}" for lines in zip(*pairs, strict=True)),
        f"{compared.gained}",
        f"{compared.lost}",
        _points(compared.difference),
        f"{_points(compared.low)} to {_points(compared.high)}",
        f"{compared.p:.3g}",
    ]


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", MINUS)  # never "-0.0"
