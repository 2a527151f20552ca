"""What README and docs name is there."""

import re
import shlex
from pathlib import Path

import pytest

from ktr.config.command_line import check_command_line
from ktr.plan.options import read_options

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
A_FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|md)|\w+\.py)`")
A_LINK = re.compile(r"\]\((?!http)([^)#]+)\)")
A_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
A_COMMAND = re.compile(r"(?:python|torchrun).* -m ktr\.(?:train|plan) (.+)")
COMPOSED = ["plan.md", "scale.md"]  # pages whose commands are of no files that a reader is to have


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path):
    text = page.read_text()
    lost = [name for name in A_FILE.findall(text) if not any((root / name).is_file() for root in (ROOT, ROOT / "ktr"))]
    lost += [link for link in A_LINK.findall(text) if not (page.parent / link).exists()]
    assert not lost


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 250


@pytest.mark.parametrize("page", COMPOSED)
def test_every_command_of_a_page_composes(page: str):
    blocks = A_BLOCK.findall((ROOT / "docs" / page).read_text())
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [found[1] for line in lines if (found := A_COMMAND.match(line))]
    assert len(commands) >= 3
    for command in commands:
        _, overrides = read_options(shlex.split(command, comments=True))
        if "-m" in overrides:  # a sweep, by its first job
            overrides = [override.partition(",")[0] for override in overrides if override != "-m"]
        assert check_command_line("train", [*overrides, "--cfg", "job"])
