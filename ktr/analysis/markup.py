"""HTML by construction: plain strings are always escaped, only ``Markup`` is taken as it is."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

VOID = {"img", "br", "wbr", "meta"}


class Markup(str):
    """Text that is HTML already."""


Child = str | Iterable[str]


def element(name: str, /, *children: Child, **attributes: str) -> Markup:
    """``<name attributes>children</name>``. A trailing underscore in an attribute's name is dropped (``class_``)."""
    shown = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items() if value)
    if name in VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after another; strings that are not ``Markup`` are escaped, lists are joined in turn."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        else:
            parts.append(escape(child) if isinstance(child, str) else join(child))
    return Markup("".join(parts))


def table(head: Sequence[Child], rows: Iterable[Sequence[Child]]) -> Markup:
    """A table; the first column is text, the others are numbers (aligned right)."""
    header = element("tr", *(element("th", cell) for cell in head))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element("table", element("thead", header), element("tbody", *body))


def embedded_image(path: Path, alt: str, class_: str = "") -> Markup:
    """An ``img`` that carries the PNG file in itself."""
    data = base64.b64encode(path.read_bytes()).decode()
    return element("img", src=f"data:image/png;base64,{data}", alt=alt, class_=class_)
