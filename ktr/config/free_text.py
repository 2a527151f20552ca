"""Texts on the command line, which Hydra's grammar would read as lists, numbers or sweeps."""

import re
from collections.abc import Collection, Sequence


def literal(arguments: Sequence[str], keys: Collection[str], lists: Collection[str] = ()) -> list[str]:
    """The arguments with the values of ``keys`` quoted for Hydra, so that they are taken as they stand.

    ``${…}`` refers to another key as anywhere. ``null`` stays, and so does a list, as ``[a.mp4,b.mp4]``, where the key
    is one of ``lists``.
    """
    return [_literal(argument, keys, lists) for argument in arguments]


def _literal(argument: str, keys: Collection[str], lists: Collection[str]) -> str:
    key, _, value = argument.partition("=")
    is_list = key in lists and value.startswith("[") and value.endswith("]")
    if key not in keys or value in ("", "null") or is_list:
        return argument
    return f"{key}={quoted(value)}"


def quoted(text: str) -> str:
    """The text between quotes, as Hydra's grammar reads it back."""
    # A backslash counts where a quote follows.
    text = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text)
    return f"'{text}'"
