"""compare.html of two evaluations: which items one has right and the other has not, with frames and both answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ktr.analysis.html import write_page
from ktr.errors import MissingData
from ktr.evaluation.asking.identity import differences
from ktr.evaluation.asking.items_file import Line
from ktr.evaluation.asking.results import scored_of
from ktr.evaluation.compare import Compared, compare
from ktr.evaluation.reports.answers_page import case_of, some_wrong
from ktr.evaluation.reports.folder import EvaluationFolder
from ktr.evaluation.scores import Scored

SHOWN = 30  # of those gained, and of those lost
FEWEST = 2  # items of a subtask that are compared by themselves


def write_pairs(paths: Sequence[Path], output: Path) -> tuple[str, Path]:
    """Compare each folder with the first, pair by pair; the text, and the path of the page of the first two.

    Raises ``MissingData`` for fewer than two folders, or of two benchmarks.
    """
    folders = [EvaluationFolder.read(path) for path in paths]
    if len(folders) < 2:
        raise MissingData("compare: name two folders at least")
    first, *others = folders
    texts = []
    for other in others:
        if other.benchmark != first.benchmark:
            both = f"{first.path} is of {first.benchmark}, and {other.path} of {other.benchmark}"
            raise MissingData(f"compare: {both}; name two of one benchmark")
        texts.append(pair_text(first, other))
    return "\n\n".join(texts), _page(first, others[0], output, texts[0])


def pair_text(first: EvaluationFolder, second: EvaluationFolder) -> str:
    """What differs in how they were asked, McNemar's test and the interval over videos; in all, and by subtask."""
    before, after = ([scored_of(line) for line in folder.lines()] for folder in (first, second))
    lines = [f"{second.path} against {first.path} ({first.benchmark})"]
    lines += [f"  differs: {told}" for told in differences(first.identity, second.identity)]
    subtasks = sorted({item.subtask for item in before} & {item.subtask for item in after})
    rows = {"all": compare(before, after)} | {
        name: compare(_of(name, before), _of(name, after))
        for name in (subtasks if len(subtasks) > 1 else [])
        if min(len(_of(name, before)), len(_of(name, after))) >= FEWEST
    }
    width = max(map(len, rows))
    lines.append(f"{'':{width}}      n  difference  95 % interval over videos  gained  lost  McNemar's p")
    lines += [_row(name.ljust(width), compared) for name, compared in rows.items()]
    alone = rows["all"].only_first, rows["all"].only_second
    lines += [f"{alone[0]} items are in the first alone, {alone[1]} in the second alone"] * bool(sum(alone))
    return "\n".join(lines)


def _row(name: str, compared: Compared) -> str:
    interval = f"{100 * compared.low:+.2f} to {100 * compared.high:+.2f}"
    counts = f"{compared.gained:6}  {compared.lost:4}  {compared.p:11.3g}"
    return f"{name}  {compared.n:5}  {100 * compared.difference:+10.2f}  {interval:>25}  {counts}"


def _of(subtask: str, items: Sequence[Scored]) -> list[Scored]:
    return [item for item in items if item.subtask == subtask]


def _page(first: EvaluationFolder, second: EvaluationFolder, output: Path, text: str) -> Path:
    before, after = ({line["id"]: line for line in folder.lines()} for folder in (first, second))
    titles = [folder.result["name"] for folder in (first, second)]
    titles = titles if titles[0] != titles[1] else [str(folder.path) for folder in (first, second)]
    sections = {
        f"Right in {titles[1]} alone": _cases(before, after),
        f"Right in {titles[0]} alone": [(case, other) for case, other in _cases(after, before)],
    }
    return write_page(output, "pairs.html", titles=titles, text=text, sections=sections)


def _cases(wrong: Mapping[str, Line], right: Mapping[str, Line]) -> list[tuple[dict, Line]]:
    """The items that ``right`` alone has right: what a page shows of each, and the other's line."""
    found = [line for id, line in wrong.items() if line["score"] < 1 <= right.get(id, {"score": 0})["score"]]
    return [(case_of(line), right[line["id"]]) for line in some_wrong(found, SHOWN)]
