"""What is there of a benchmark before a run: rows by subtask, media present and missing, and rows that are no items."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from ktr.errors import MissingData
from ktr.evaluation.benchmarks.benchmark import Benchmark, Loaded
from ktr.evaluation.benchmarks.item import Item
from ktr.evaluation.benchmarks.media import MediaFinder

SHOWN = 5


@dataclass(frozen=True)
class Checked:
    """A benchmark's items whose media are there, and those that lack some, each with a path that is missing."""

    benchmark: Benchmark
    loaded: Loaded
    present: list[Item]
    missing: list[tuple[Item, str]]

    def require(self) -> list[Item]:
        """The items that a run asks. Raises ``MissingData`` where media are missing and that is not allowed."""
        if self.missing and not self.benchmark.allow_missing:
            raise MissingData(
                f"{self.benchmark.name}: {len(self.missing)} of {len(self.loaded.items)} items lack media below "
                f"media_root={self.benchmark.media_root}, such as {self.missing[0][1]}. {self.benchmark.how_to_get} Or "
                "set benchmark.allow_missing=true, which leaves them out and says so in the result"
            )
        if not self.present:
            raise MissingData(f"{self.benchmark.name}: no item has its media below {self.benchmark.media_root}")
        return self.present

    def table(self) -> str:
        """One line a subtask, the sums, and what is no item."""
        rows: dict[str, Counter[str]] = defaultdict(Counter)
        for item in self.present:
            rows[item.subtask]["present"] += 1
        for item, _ in self.missing:
            rows[item.subtask]["missing"] += 1
        width = max(len("subtask"), *map(len, rows))
        lines = [f"{self.benchmark.name}: {self.benchmark.annotations}", f"{'subtask':{width}}  rows  present  missing"]
        counts = [(name, rows[name]) for name in sorted(rows)]
        counts.append(("all", sum(rows.values(), Counter())))
        for name, count in counts:
            lines.append(f"{name:{width}}  {count.total():4}  {count['present']:7}  {count['missing']:7}")
        total, expected = len(self.loaded.items), self.benchmark.rows
        if expected is not None and total != expected and self.benchmark.limit is None:
            lines.append(f"the whole benchmark has {expected} rows, and this is {total}")
        lines += [f"left aside: {count} of {name}" for name, count in sorted(self.loaded.aside.items())]
        lines += [f"missing: {path}" for _, path in self.missing[:SHOWN]]
        if self.loaded.skips:
            kinds = Counter(skip.kind for skip in self.loaded.skips)
            lines.append("skipped: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
            lines += [f"  {skip.reason}" for skip in self.loaded.skips[:SHOWN]]
        return "\n".join(lines)


def check(benchmark: Benchmark) -> Checked:
    """Load a benchmark and look for its media. Raises ``MissingData`` where it has no item."""
    loaded = benchmark.load()
    finder = MediaFinder(str(Path(benchmark.media_root).expanduser()))
    present: list[Item] = []
    missing: list[tuple[Item, str]] = []
    for item in loaded.items:
        lost = next((medium for medium in item.media if finder.find(medium) is None), None)
        if lost is None:
            present.append(item)
        else:
            missing.append((item, lost.paths[0]))
    return Checked(benchmark, loaded, present, missing)
