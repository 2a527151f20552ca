"""The examples of docs/extend.md as what they say they are: a package, config files and commands."""

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
_NAMED = re.compile(r"^# ((?:mine|conf)/\S+)$", re.MULTILINE)
_FENCED = re.compile(r"^```(python|yaml|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def write_examples(folder: Path) -> list[Path]:
    """Each block with a comment that names its file, written below ``folder``."""
    files = []
    for language, text in _FENCED.findall(PAGE.read_text()):
        if language != "bash":
            file = folder / _NAMED.findall(text)[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            files.append(file)
    return files


def commands() -> list[tuple[str, list[str]]]:
    """The program and the arguments of each command, in the order of the page."""
    lines = [
        line for language, text in _FENCED.findall(PAGE.read_text()) if language == "bash" for line in text.split("\n")
    ]
    small = next(line for line in lines if line.startswith("small=")).removeprefix("small=").strip('"')
    started = [
        shlex.split(line.replace("$small", small))
        for line in lines
        if line.startswith("python -m ktr.") and "table/" not in line
    ]
    return [(words[2].removeprefix("ktr."), words[3:]) for words in started]
