"""What was found: a line for each training row and benchmark, and a table of how many rows and items there are."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ktr.duplicates.sides import Row, Side

KINDS = ("same_file", "same_frames", "same_question")
ANY = "any of them"
Match = tuple[int, float]  # the place of an item among all, and its similarity


@dataclass(frozen=True)
class Found:
    """The lines so far, and by benchmark and kind the number of rows and the ids of the items.

    ``faults`` counts media that are there and cannot be read, by kind.
    """

    train: Side
    benchmarks: Mapping[str, Side]
    faults: Counter[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    items: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, row: Row, items: Sequence[Row], matches: Mapping[str, Sequence[Match]]) -> None:
        """One line for each benchmark that has the row, with that item of it which has most in common."""
        met: dict[str, dict[int, dict[str, float]]] = {}
        for kind, found in matches.items():
            for place, value in found:
                kinds = met.setdefault(items[place].source, {}).setdefault(place, {})
                kinds[kind] = max(value, kinds.get(kind, 0.0))
        for benchmark, by_item in met.items():
            best = max(by_item, key=lambda place: (len(by_item[place]), sum(by_item[place].values()), -place))
            similarity: dict[str, float] = {}
            for place, kinds in by_item.items():
                for kind, value in kinds.items():
                    similarity[kind] = max(value, similarity.get(kind, 0.0))
                for kind in (*kinds, ANY):
                    self.items[benchmark, kind].add(items[place].id)
            self.rows.update((benchmark, kind) for kind in (*similarity, ANY))
            self.lines.append(
                {"file": row.source, "index": row.index, "id": row.id, "kinds": list(similarity)}
                | {"benchmark": benchmark, "item": items[best].id, "similarity": similarity}
            )

    def table(self) -> str:
        """What was compared, and how many training rows and items are duplicates, by benchmark and kind."""
        told = [_told("training", self.train), *(_told(name, side) for name, side in self.benchmarks.items())]
        if self.faults:
            told.append(f"media that cannot be read: {_counts(self.faults)}")
        rows = [("benchmark", "kind", "training rows", "items", "of"), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            words = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
            told.append("  ".join([*words, *(cell.rjust(width) for cell, width in zip(row[2:], widths[2:]))]))
        return "\n".join(told)

    def _cells(self) -> Iterator[tuple[str, ...]]:
        for name, side in self.benchmarks.items():
            for kind in (*KINDS, ANY):
                if kind == ANY or self.rows[name, kind]:
                    counts = (self.rows[name, kind], len(self.items[name, kind]), len(side.rows))
                    yield (name, kind, *map(str, counts))


def _told(name: str, side: Side) -> str:
    skipped = f"; skipped: {_counts(side.skipped)}" if side.skipped else ""
    return f"{name}: {len(side.rows)} rows, {len(side.media)} media, {len(side.missing)} missing{skipped}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
