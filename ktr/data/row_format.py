"""Rows in a format of a user's own: one function from a row to the fields of a row in the Video-R1 format."""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ktr.errors import ConfigError, FormatFault


class RowFormat:
    """Reads rows by a ``function`` of a row, itself or its dotted name (``mine.rows.question``).

    It is given the row as JSON has it and gives a mapping with the keys of the Video-R1 format, paths relative to the
    media root; its other keys are ``VideoQuestion.extra``. Raises ConfigError where there is no such function, or none
    that is called with a row alone.
    """

    def __init__(self, function: Callable[[Any], Mapping[str, Any]] | str) -> None:
        self.function = _resolved(function) if isinstance(function, str) else function
        named = getattr(self.function, "func", self.function)  # of a partial
        self.name = f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"
        try:
            inspect.signature(self.function).bind({})
        except TypeError as error:
            raise ConfigError(
                f"format={self.name} cannot be called with a row alone ({error}): it takes one argument, the row"
            ) from error

    def fields(self, row: Any, file: Path, index: int) -> Mapping[str, Any]:
        """The fields that the function gives of a row. Raises ``FormatFault`` where it fails."""
        try:
            fields = self.function(row)
        except Exception as error:  # someone else's code may raise anything, and a row is one skip
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise FormatFault(file, index, f"{self.name} raised {reason}") from error
        if not isinstance(fields, Mapping):
            raise FormatFault(file, index, f"{self.name} gave a {type(fields).__name__}, and no mapping of fields")
        return fields


def _resolved(name: str) -> Callable[[Any], Any]:
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"format={name}: there is no such function ({error}); give <module>.<function>") from error
    if not callable(found):
        raise ConfigError(f"format={name} is a {type(found).__name__}, and no function")
    return found
