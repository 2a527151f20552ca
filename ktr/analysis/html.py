"""How pages and their data are written: from templates, with everything inside and any text escaped."""

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ktr.record.json_file import write_whole

MAX_CHARACTERS = 20_000


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render a template of ``ktr/analysis/templates`` into a file; return its path."""
    text = render(template, **values).encode("utf-8", errors="backslashreplace").decode()  # a row may hold half a pair
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def render(template: str, **values: Any) -> str:
    """A template of ``ktr/analysis/templates`` with these values.

    Any text is escaped: a question or an answer may hold what looks like HTML.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ktr.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    environment.filters["bounded"] = bounded
    environment.filters["base64"] = lambda file: b64encode(file.read_bytes()).decode()
    return environment


def bounded(value: Any) -> str:
    """A text as a page of many has it: whole, but of more than ``MAX_CHARACTERS`` their beginning."""
    text = str(value)
    more = len(text) - MAX_CHARACTERS
    return text if more <= 0 else f"{text[:MAX_CHARACTERS]} … ({more:,} more characters in its file)"


def webp_uri(pixels_HWC: UInt8[np.ndarray, "H W 3"], quality: int) -> str:
    """A picture as a data URI."""
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels_HWC)).save(file, "webp", quality=quality)
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"


def plain(value: Any) -> Any:
    """The value as JSON has it, where there is no NaN and no infinity: None in their place."""
    if isinstance(value, Mapping):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> Path:
    """Write what a page shows; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(plain(value), ensure_ascii=False, separators=(",", ":")) + "\n")
    return path
