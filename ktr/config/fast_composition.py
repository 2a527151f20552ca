"""What Hydra does anew in each composition, done as seldom as its outcome changes.

A command line is composed several times before anything runs, of some forty files each time: by the checks, for each
job of a sweep, and by Hydra itself. More than half of that went into parsing the same files and the same references in
them, into maps of choices that nobody read, and into copies of a store that nobody writes.
"""

import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any, cast

from hydra._internal import defaults_list  # Hydra lets a plugin bring new schemes, and not replace its own file://
from hydra._internal.core_plugins import file_config_source, importlib_resources_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, base, grammar_parser

_choices_of = defaults_list._create_interpolation_map


# Both bear the name of what they replace: a row's process registers Hydra's own anew beside them, which Hydra lets pass
# where the name is the same, and refuses where it is another.
class FileConfigSource(file_config_source.FileConfigSource):
    """The files of a folder, each parsed once for as long as it stays as it is."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = os.path.join(self.path, self._normalize_file_name(config_path))
        now = os.stat(path) if os.path.isfile(path) else None
        state = now and (now.st_ino, now.st_size, now.st_mtime_ns)
        return _copied(self, file_config_source.FileConfigSource, config_path, state)


class ImportlibResourcesConfigSource(importlib_resources_config_source.ImportlibResourcesConfigSource):
    """The files of installed packages, Hydra's own among them, each parsed once."""

    def load_config(self, config_path: str) -> ConfigResult:
        parser = importlib_resources_config_source.ImportlibResourcesConfigSource
        return _copied(self, parser, config_path, None)


def compose_faster() -> None:
    """Put the above and the below in the place of what Hydra has; what it composes is the same."""
    for source in (FileConfigSource, ImportlibResourcesConfigSource):
        SourcesRegistry.instance().types[source.scheme()] = source
    defaults_list._create_interpolation_map = _choices_where_read
    base.parse = _tree_of
    cast(Any, ConfigStore).__deepcopy__ = _itself


def _copied(
    source: ConfigSource, parser: type[ConfigSource], config_path: str, state: tuple[int, ...] | None
) -> ConfigResult:
    parsed = _parsed(parser, source.path, config_path, state)
    return replace(parsed, provider=source.provider, config=deepcopy(parsed.config))  # Hydra takes it apart


@cache
def _parsed(parser: type[ConfigSource], folder: str, config_path: str, state: tuple[int, ...] | None) -> ConfigResult:
    return parser("", f"{parser.scheme()}://{folder}").load_config(config_path)


_tree_of = cache(grammar_parser.parse)  # of a text with ${…} in it; who visits a tree leaves it as it is


def _choices_where_read(
    overrides: defaults_list.Overrides, defaults: Sequence[InputDefault], self_added: bool
) -> DictConfig:
    """The choices so far, which Hydra makes for each file: they are read by interpolations of its defaults list."""
    if any(default.is_interpolation() for default in defaults):
        return _choices_of(overrides, list(defaults), self_added)
    return OmegaConf.create()


def _itself(store: ConfigStore, memo: Any) -> ConfigStore:
    """Hydra copies its sources for each composition and each group that ``--help`` lists, and with them the store."""
    return store
