"""A few made-up rows in each form that the benchmarks' files have."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file below the test's folder: JSON of a value, or a text as it is."""

    def written(name: str, value: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return written


def converted(problem_id: int, path: str, answer: str = "B", **more: Any) -> dict[str, Any]:
    """A row in Video-R1's form."""
    options = None if "options" in more and more["options"] is None else ["A. red", "B. blue"]
    row = {
        "problem_id": problem_id, "problem": "What color?", "data_type": "video", "problem_type": "multiple choice",
        "original_question_type": "", "options": options, "process": "", "solution": f"<answer>{answer}</answer>",
        "path": path, "data_source": "",
    }  # fmt: skip
    return row | more
