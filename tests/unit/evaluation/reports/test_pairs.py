"""Evaluations item by item: paired by id, what differs told first, the items that changed with both answers."""

from pathlib import Path

import pytest

from ktr.errors import InputError, MissingData
from ktr.evaluation.compare import mcnemar
from ktr.evaluation.reports.pairs import compare_evaluations, comparison_grid, comparison_notes, read_evaluations
from ktr.evaluation.reports.pairs_page import MAX_ITEMS, shown_changes, write_pairs
from ktr.report import main
from tests.evaluation_folder import item_line, write_evaluation

BEFORE = ("right", "right", "wrong", "wrong", "right", "wrong")
AFTER = ("right", "wrong", "right", "right", "right", "unparsable")


def lines(outcomes):
    return [item_line(n, outcome, f"task {n // 3}") for n, outcome in enumerate(outcomes)]


def compared(tmp_path: Path, before, after, **changes):
    first = write_evaluation(tmp_path / "a", before, "/m")
    second = write_evaluation(tmp_path / "b", after, "/m", changes=changes)
    return compare_evaluations(*read_evaluations([first, second]))


def test_gains_and_losses_are_counted_in_all_and_by_subtask(tmp_path: Path):
    comparison = compared(tmp_path, lines(BEFORE), lines(AFTER))
    whole = comparison.whole
    assert (whole.n, whole.num_videos, whole.gained, whole.lost) == (6, 3, 2, 1) and whole.p == mcnemar(2, 1)
    assert {name: (of.gained, of.lost) for name, of in comparison.by_subtask.items()} == {
        "task 0": (1, 1),
        "task 1": (1, 0),
    }
    ids = {
        way: [pair[0]["id"] for pairs in comparison.changed(way).values() for pair in pairs] for way in (True, False)
    }
    assert ids == {True: ["2", "3"], False: ["1"]} and comparison.differing == ()
    rows = comparison_grid(comparison).rows
    assert [row[:7] for row in rows][-1] == ["all", "6", "3", "50.0", "66.7", "2", "1"] and rows[-1][7] == "+16.7"


def test_only_pairs_that_both_answered_of_the_same_question_count_and_the_rest_is_told(tmp_path: Path):
    before, after = lines(BEFORE), lines(AFTER)[1:]
    before[1] = item_line(1, "failed", "task 0")
    after[1]["question"] = "Another?"
    after.append(item_line(9))
    comparison = compared(tmp_path, before, after)
    assert [pair[0]["id"] for pair in comparison.pairs] == ["3", "4", "5"] and comparison.by_subtask == {}
    assert list(comparison_notes(comparison))[-1] == (
        "Left out: 1 items that a alone has; 1 items that b alone has; 1 items whose id has another question in each; "
        "1 items without a reply in one of them."
    )


def test_two_benchmarks_or_no_common_item_are_refused(tmp_path: Path):
    folders = [write_evaluation(tmp_path / name, lines(BEFORE), benchmark=name) for name in ("mmvu", "shapes")]
    with pytest.raises(InputError, match="mmvu is of the benchmark mmvu, shapes of shapes"):
        compare_evaluations(*read_evaluations(folders))
    with pytest.raises(InputError, match="no item that both answered"):
        compared(tmp_path, [item_line(0)], [item_line(1)])
    with pytest.raises(MissingData, match="two folders"):
        write_pairs(folders[:1], tmp_path / "compare.html")


def test_what_differs_is_printed_first_and_the_pages_path_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    evil = [line | {"output": "<script>alert(2)</script>"} for line in lines(AFTER)]
    first = write_evaluation(tmp_path / "x" / "a", lines(BEFORE))
    second = write_evaluation(tmp_path / "y" / "a", evil, changes={"rule": "lenient"})
    third = write_evaluation(tmp_path / "c", lines(AFTER))
    page = tmp_path / "compare.html"
    assert main(["compare", str(first), str(second), str(third), "--output", str(page)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [f"{second} against {first}", 'differs in rule: "strict" and "lenient"'] and told[-1] == str(
        page
    )
    assert f"c against {first}" in told
    text = page.read_text()
    assert text.count('data-change="gained"') == 4 and text.count('data-change="lost"') == 2
    assert text.count("<script>") == 1 and "&lt;script&gt;alert(2)" in text
    assert f'data-run="{second}"' in text and f"<h3>{first}</h3>" in text


def test_the_page_shows_gained_and_lost_in_turn_up_to_its_bound(tmp_path: Path):
    before = [item_line(n, "wrong" if n < 200 else "right") for n in range(210)]
    after = [item_line(n, "right" if n < 200 else "wrong") for n in range(210)]
    items = shown_changes(compared(tmp_path, before, after), MAX_ITEMS)
    ways = [item.tags["change"] for item in items]
    assert len(items) == MAX_ITEMS and ways.count("lost") == 10 and ways[:2] == ["gained", "lost"]
    assert {option.chosen_by for option in items[0].options} == {("a",), ("b",)}
    assert all(list(item.answers) == ["a", "b"] for item in items)


def test_an_evaluation_that_goes_on_can_be_compared_and_stays_as_it_is(tmp_path: Path):
    first = write_evaluation(tmp_path / "a", lines(BEFORE))
    second = write_evaluation(tmp_path / "b", lines(AFTER))
    (second / "results.json").unlink()
    with (second / "items.jsonl").open("a") as file:
        file.write('{"id": "7", "out')
    before = (second / "items.jsonl").read_bytes()
    assert len(compare_evaluations(*read_evaluations([first, second])).pairs) == 6
    assert (second / "items.jsonl").read_bytes() == before
