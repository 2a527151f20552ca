"""The pages of items in a browser: filters show the items that have all chosen tags, and say how many they are."""

from pathlib import Path

import pytest

from ktr.evaluation.reports.answers_page import write_answers_page
from ktr.evaluation.reports.pairs_page import write_pairs
from tests.browser.conftest import Open
from tests.evaluation_folder import item_line, write_evaluation

ODD = 'x  "y"\n&<z>'


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluations")
    before = [item_line(n, "wrong" if n % 2 else "cut_off", ODD if n % 3 else "plain") for n in range(12)]
    after = [item_line(n, "right" if n < 9 else "wrong", line["subtask"]) for n, line in enumerate(before)]
    folders = [write_evaluation(folder / name, lines) for name, lines in (("a", before), ("b", after), ("c", after))]
    _, changed = write_pairs(folders, folder / "compare.html")
    return {"wrong": write_answers_page(folders[0]), "changed": changed}


def test_filters_show_what_has_all_their_tags(open_page: Open, pages: dict[str, Path]):
    page = open_page(pages["wrong"])
    shown = page.locator(".case:visible")
    assert shown.count() == 12 and page.locator("#shown").text_content() == "12 of 12 items"
    page.locator('[data-filter="subtask"]').select_option(ODD)
    assert shown.count() == 8
    page.locator('[data-filter="outcome"]').select_option("wrong")
    assert shown.count() == 4 and page.locator("#shown").text_content() == "4 of 12 items"
    page.locator('[data-filter="subtask"]').select_option("")
    assert shown.count() == 6
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_changes_are_filtered_by_run_too(open_page: Open, pages: dict[str, Path]):
    page = open_page(pages["changed"])
    page.locator('[data-filter="run"]').select_option("c")
    assert page.locator(".case:visible").count() == 9 and page.locator("#shown").text_content() == "9 of 18 items"
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
