"""Each example of docs/extend.md is found, checked and instantiated by its command."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.utils import instantiate

from ktr.config.command_line import check_command_line
from ktr.errors import ConfigError
from tests.extend_page import PAGE, commands, write_examples

PARTS = ("Signal", "Reward", "Advantage", "Loss and ratio", "Weighting", "View", "Data format", "Prompt", "Callback")
NODES = ("reward", "advantage", "weighting", "loss", "prompt")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine_unread: None) -> Iterator[Path]:
    write_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_each_part_has_its_section_with_code_config_and_command():
    sections = dict(section.split("\n", 1) for section in PAGE.read_text().split("\n## ")[1:])
    assert tuple(sections) == PARTS
    for name, text in sections.items():
        assert all(f"```{block}\n" in text for block in ("python", "yaml", "bash")) and "*Checked:*" in text, name


@pytest.mark.parametrize(("program", "given"), commands(), ids=lambda value: "")
def test_a_command_of_the_page_is_right_and_its_parts_can_be_made(program: str, given: list[str], home: Path):
    (job,) = check_command_line(program, [*given, "--cfg", "job"])
    for node in NODES:
        if node in job:
            instantiate(job[node])
    for callback in job.get("callbacks", {}).values():
        if callback._target_.startswith("mine."):
            instantiate(callback)


@pytest.mark.parametrize(("program", "given"), commands()[::4], ids=lambda value: "")
def test_a_name_that_is_not_there_is_one_sentence_with_the_nearest(program: str, given: list[str], home: Path):
    for file in home.glob("mine/*.py"):
        file.write_text(file.read_text().replace("class ", "class X").replace("def ", "def x", 1))
    with pytest.raises(ConfigError, match=r"mine\.\w+\.\w+: its source defines no .*did you mean mine\.") as caught:
        check_command_line(program, [*given, "--cfg", "job"])
    assert "\n" not in str(caught.value)
