"""Folders of config files beside conf/: what ``--config-dir`` and ``hydra.searchpath`` name, and which files they hold.

Both become one override, ``hydra.searchpath=[file:///…]``, with whole paths: it is what Hydra reads, what each job of a
sweep and each rank is started with, and what ``record.json`` keeps.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ktr.config.free_text import quoted
from ktr.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"
SEARCH_PATH = "hydra.searchpath"
_OPTIONS = ("--config-dir", "-cd")
_DEPTH = 4  # folders below a search path that are looked into: one of them may be a whole project


def with_search_path(
    arguments: Sequence[str], overrides: Sequence[str], config_dir: str | None, config_name: str
) -> list[str]:
    """The command line with its search paths as one override of whole paths; as it is where it has none.

    ``overrides`` are those among the arguments, and ``config_dir`` is the value of ``--config-dir``. Without a
    ``hydra.searchpath`` of the command line that of the primary config counts. Raises ConfigError where a path is no
    folder that can be read.
    """
    is_set = [override for override in overrides if override.partition("=")[0].strip() == SEARCH_PATH]
    if len(is_set) > 1:
        raise ConfigError(
            f"{SEARCH_PATH} is given {len(is_set)} times: give one list, {SEARCH_PATH}=[<folder>,<folder>]"
        )
    given = [(f"--config-dir={config_dir}", config_dir)] if config_dir is not None else []
    first = [_folder(at, path) for at, path in given]
    written = _list(is_set[0]) if is_set else _of_primary(config_name, [CONF, *first])
    folders = dict.fromkeys([*first, *(_folder(f"{SEARCH_PATH}={path}", path) for path in written)])
    if not folders and not is_set:
        return list(arguments)
    kept = [argument for argument in _without_config_dir(arguments) if argument not in is_set]
    at = next((kept.index(override) for override in overrides if override in kept), 0)  # argparse wants them together
    kept.insert(at, f"{SEARCH_PATH}=[{','.join(quoted(f'file://{folder}') for folder in folders)}]")
    return kept


def search_folders(overrides: Sequence[str]) -> tuple[Path, ...]:
    """conf/ and the folders beside it, of overrides that ``with_search_path`` wrote or a program gives."""
    found = [path for override in overrides if override.partition("=")[0] == SEARCH_PATH for path in _list(override)]
    return tuple(dict.fromkeys([CONF, *(_folder(f"{SEARCH_PATH}={path}", path) for path in found)]))


@dataclass(frozen=True)
class ConfigFiles:
    """The config files of all folders: of each group its choices, and of each choice the folder that it is in."""

    folders: tuple[Path, ...]
    groups: Mapping[str, Mapping[str, Path]]

    def shown(self, group: str) -> str:
        """``conf/reward``, and what else holds files of the group."""
        others = [place(folder) for folder in self.folders[1:] if folder in self.groups.get(group, {}).values()]
        return " and ".join(f"{folder}/{group}" for folder in ("conf", *others))

    def named(self, group: str, choice: str) -> str:
        """The choice, with its folder where that is not conf/."""
        folder = self.groups[group][choice]
        return choice if folder == CONF else f"{choice} ({place(folder)})"

    def origin(self, key: str, chosen: Iterable[tuple[str, str]]) -> str:
        """`` (mine/conf/loss/mine.yaml)`` of a key that one of the ``chosen`` (group, choice) outside of conf/ sets."""
        for group, choice in chosen:
            folder = self.groups.get(group, {}).get(choice, CONF)
            if folder != CONF and _sets(folder / group / f"{choice}.yaml", group, key):
                return f" ({place(folder)}/{group}/{choice}.yaml)"
        return ""


@cache
def config_files(folders: tuple[Path, ...]) -> ConfigFiles:
    """Raises ConfigError where two folders have a file of one name: Hydra would take the first, and say nothing."""
    held: dict[str, Path] = {}
    for folder in folders:
        for name in _names(folder):
            if name in held:
                raise ConfigError(
                    f"{name}.yaml stands in {place(held[name])} and in {place(folder)}: give one of them another name"
                )
            held[name] = folder
    groups: dict[str, dict[str, Path]] = {}
    for name in sorted(held):
        group, _, choice = name.rpartition("/")
        if group:
            groups.setdefault(group, {})[choice] = held[name]
    for group in sorted(groups, key=len):
        above, _, below = group.rpartition("/")
        if above.split("/")[0] == "experiment":  # experiment=table/signals
            groups.setdefault(above, {}).update({f"{below}/{choice}": at for choice, at in groups[group].items()})
    return ConfigFiles(folders, groups)


class SearchFolders(SearchPathPlugin):
    """Folders that Hydra knows before it reads any override: for ``--help``, and for a primary config in them."""

    folders: ClassVar[tuple[Path, ...]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.append("ktr", f"file://{folder}")


Plugins.instance().register(SearchFolders)


def place(folder: Path) -> str:
    """What to call a folder of config files: conf, or its path from where the command is given."""
    if folder == CONF:
        return "conf"
    path = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return f"./{path}" if path.parts[:1] == ("conf",) else str(path)


def _names(folder: Path) -> Iterator[str]:
    for at, below, files in os.walk(folder, followlinks=True):
        group = Path(at).relative_to(folder)
        below[:] = [name for name in sorted(below) if name[0] not in "._"] if len(group.parts) < _DEPTH else []
        yield from ((group / file).with_suffix("").as_posix() for file in sorted(files) if file.endswith(".yaml"))


def _folder(given: str, path: str) -> Path:
    """The folder of a search path: a path, ``file://`` of one, or ``pkg://`` of a package that can be imported."""
    scheme, found, rest = path.partition("://")
    if not found:
        scheme, rest = "file", path
    if scheme == "file":
        folder, what = Path(rest).expanduser().absolute(), "folder"
    elif scheme == "pkg":
        folder, what = _package_folder(rest), "package of the current folder or of those installed"
    else:
        raise ConfigError(f"{given}: {scheme}:// is no kind of search path; give a folder, file://… or pkg://…")
    if not rest or folder is None or not folder.is_dir():
        close = _like(folder) if folder is not None else None
        raise ConfigError(f"{given}: there is no such {what}" + (f"; did you mean {close}?" if close else ""))
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{given}: that folder cannot be read; get the right to it, or give another")
    return folder.resolve()


def _package_folder(name: str) -> Path | None:
    """Of a dotted name, or one with slashes; without an import, which could take long."""
    top, *rest = name.replace("/", ".").rstrip(".").split(".")
    spec = find_spec(top) if top.isidentifier() else None
    folders = [Path(root, *rest) for root in (spec.submodule_search_locations or () if spec else ())]
    return next((folder for folder in folders if folder.is_dir()), None)


def _like(folder: Path) -> str | None:
    from difflib import get_close_matches

    if not folder.parent.is_dir():
        return None
    others = [other.name for other in folder.parent.iterdir() if other.is_dir()]
    return next(iter(get_close_matches(folder.name, others, n=1, cutoff=0.6)), None)


def _list(override: str) -> list[str]:
    """The paths of the override; without quotes they are taken as they stand, where Hydra's grammar knows no ~."""
    value: Any = override.partition("=")[2].strip()
    if value.startswith("[") and value.endswith("]") and not set(value[1:-1]) & set("'\"[]"):
        return [path.strip() for path in value[1:-1].split(",") if path.strip()]
    try:
        parsed = OverridesParser.create().parse_override(override)
        value = None if parsed.is_sweep_override() else parsed.value()
    except HydraException as error:
        raise ConfigError(f"{override}: {str(error).strip().splitlines()[0]}") from error
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise ConfigError(f"{override}: it takes a list of folders, {SEARCH_PATH}=[<folder>,<folder>]")
    return [str(path) for path in value]


def _of_primary(config_name: str, folders: Sequence[Path]) -> list[str]:
    """The search path that the primary config itself gives; Hydra allows it in no other file."""
    for folder in folders:
        file = folder / f"{config_name.removesuffix('.yaml')}.yaml"
        if folder != CONF and file.is_file():
            try:
                paths = OmegaConf.select(OmegaConf.create(_content(file)), SEARCH_PATH)
            except OmegaConfBaseException as error:
                raise ConfigError(f"{file}: {SEARCH_PATH}: {str(error).strip().splitlines()[0]}") from error
            if paths is None:
                return []
            if not OmegaConf.is_list(paths) or not all(isinstance(path, str) for path in paths):
                raise ConfigError(f"{file}: {SEARCH_PATH} takes a list of folders")
            return [str(path) for path in paths]
    return []


def _without_config_dir(arguments: Sequence[str]) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument in _OPTIONS:
            next(rest, None)
        elif not argument.startswith(("--config-dir=", "-cd")):
            yield argument


def _sets(file: Path, group: str, key: str) -> bool:
    """Whether the file gives the dotted ``key`` itself, by the package of its header or of its group."""
    text = file.read_text(encoding="utf-8")
    header = next(
        (line.partition("@package")[2].split() for line in text.splitlines()[:20] if "# @package" in line), []
    )
    package = (header or [group.replace("/", ".")])[0].replace("_global_", "").replace("_group_", group)
    below = key.removeprefix(package).lstrip(".") if key.startswith(package) else None
    node: Any = _content(file)
    for part in (below or "").split("."):
        if not part or not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _content(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no YAML: {' '.join(str(error).split())}; correct it") from error
