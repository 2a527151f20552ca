"""What README and docs name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
A_FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|md)|\w+\.py)`")
A_LINK = re.compile(r"\]\((?!http)([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path):
    text = page.read_text()
    lost = [name for name in A_FILE.findall(text) if not any((root / name).is_file() for root in (ROOT, ROOT / "ktr"))]
    lost += [link for link in A_LINK.findall(text) if not (page.parent / link).exists()]
    assert not lost


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 250
