"""The table of metrics: what a run logs is in it, and docs/metrics.md is written from it."""

from pathlib import Path

from ktr.record.metrics import METRICS, metric, metrics_page

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_page_is_written_from_the_table():
    page = "".join(f"{line}\n" for line in metrics_page())
    assert PAGE.read_text(encoding="utf-8") == page, "run: python -m ktr.record.metrics > docs/metrics.md"


def test_each_row_is_the_first_that_fits_its_own_names():
    for row in METRICS:
        assert metric(row.pattern.replace("*", "x")) == row, row.pattern
        assert row.unit and row.meaning and not row.meaning.endswith(".")


def test_a_parts_own_name_is_found_and_another_is_not():
    assert metric("reward/mine") and metric("attribution/mine/score") and metric("grad/norm/mine")
    assert metric("val/pass_at_4/accuracy") and metric("nothing/like/this") is None
