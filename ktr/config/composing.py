"""One job's config: composed by Hydra and checked key by key, so that a slip is one sentence with the right key."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ktr.config.benchmark_input import check_benchmark
from ktr.config.even_shares import check_even_shares
from ktr.config.fast_composition import compose_faster
from ktr.config.free_text import quoted
from ktr.config.keys import check_nodes, check_override, nearest, target_signature
from ktr.config.refused import check_options
from ktr.config.run_names import override_key, register_resolvers
from ktr.config.schemas import register_schemas
from ktr.config.search_path import CONF, SEARCH_PATH, ConfigFiles, config_files, search_folders
from ktr.errors import ConfigError

FOLDERS_OF_POLICIES = ("model.path", "model.adapter", "compare")  # a "~" at their start is the user's own folder

register_schemas()
register_resolvers()
compose_faster()


def compose(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The checked config of one job, its name and folder fixed. Raises ConfigError."""
    parsed, files = parse(overrides), config_files(search_folders(overrides))
    config = compose_unchecked(config_name, parsed)
    choices = config.hydra.runtime.choices
    if missing := _missing(_plain(config)):
        raise ConfigError(f"{missing} has no value: give {missing}=… on the command line")
    try:
        with open_dict(config):
            if "paths" in config:
                config.name = _folder_name(config.name)
                config.paths.folder = config.paths.folder
            for key in FOLDERS_OF_POLICIES:
                if str(folder := OmegaConf.select(config, key)).startswith("~"):
                    OmegaConf.update(config, key, str(Path(folder).expanduser()))
            if "labels" in config:
                config.labels = OmegaConf.to_container(config.labels, resolve=True)
            del config["hydra"]
        resolved = _plain(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}") from error
    chosen = [
        *chosen_files(parsed),
        *((str(group).partition("@")[0], str(choice)) for group, choice in choices.items()),
    ]
    check_nodes(_plain(config), resolved, partial(files.origin, chosen=chosen))
    check_options(resolved)
    check_even_shares(resolved)
    for part in ("train", "validation") if "data" in config else ():
        own = None if OmegaConf.is_interpolation(config.data, part) else resolved["data"].get(part)
        if isinstance(own, Mapping) and isinstance(own.get("format"), str):
            target_signature(f"data.{part}.format", own["format"])
    _check_signals(resolved, choices)
    return config


def benchmark_nodes(
    job: DictConfig, at: str = "validation.benchmarks", overrides: Sequence[str] | None = None
) -> dict[str, DictConfig]:
    """The nodes of the benchmarks of ``at`` by name, also of folders beside conf/ that the ``overrides`` name.

    Without any, they are those of the job that runs.
    Raises ConfigError where there is no such benchmark or option, or one is named twice, and MissingData where its
    files are not there.
    """
    folders = [f"paths.{key}={quoted(str(value))}" for key, value in job.paths.items() if key in ("data", "cache")]
    if overrides is None:
        overrides = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
    folders += [override for override in overrides if override_key(override) == SEARCH_PATH]
    nodes = {}
    for entry in cast(list[Any], OmegaConf.to_container(OmegaConf.select(job, at), resolve=True)):
        options: dict[str, Any] = {"name": entry} if isinstance(entry, str) else dict(entry)
        if not isinstance(name := options.pop("name", None), str):
            raise ConfigError(f"{at}={entry}: an entry is a benchmark's name, or {{name: …, keys}}")
        if name in nodes:
            raise ConfigError(
                f"{at}: {name} is named twice, and results are told by name; give the second a file of its own, "
                "benchmark/<name>.yaml in a folder of --config-dir"
            )
        texts = {key: quoted(value) if isinstance(value, str) else value for key, value in options.items()}
        given = [f"benchmark.{key}={value}" for key, value in texts.items()]
        config = compose("dry_run", [f"benchmark={name}", *folders, *given])
        kinds = {OmegaConf.select(each, "data.validation._target_") for each in (config, job)}
        if len(kinds) == 1:  # the embedded world's, to which its benchmark refers, may be another in this job
            config.data = OmegaConf.to_container(job.data, resolve=True)
        check_benchmark(config)
        nodes[name] = config.benchmark
    return nodes


def compose_unchecked(config_name: str, parsed: Sequence[Override]) -> DictConfig:
    """What Hydra makes of the overrides, with its own node. Raises ConfigError about a file or a key that is wrong."""
    files = config_files(search_folders([override.input_line or "" for override in parsed]))
    with _hydra():
        _check_choices(parsed, files)
        return _composed(config_name, parsed, files)


def _composed(config_name: str, parsed: Sequence[Override], files: ConfigFiles) -> DictConfig:
    overrides, values = [override.input_line or "" for override in parsed], _of_values(parsed, files)
    if any(override.type != OverrideType.CHANGE for override in values):  # Hydra would add any key
        _check_keys(config_name, parsed, files)
        return _compose(config_name, overrides)
    try:
        config = _compose(config_name, overrides)
    except ConfigError:
        _check_keys(config_name, parsed, files)
        raise
    given = _plain(config) if values else {}
    for override in values:  # the keys are there, but perhaps behind a reference
        check_override(override.key_or_group, given)
    return config


def _folder_name(name: Any) -> str:
    """``name``, if a folder below ``paths.runs`` can have it. Raises ConfigError."""
    if not name or str(name) in (".", "..") or set(str(name)) & set("/\\\0"):
        raise ConfigError(f"name={name}: a run's name is that of its folder below paths.runs; give one word, without /")
    return str(name)


def parse(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra reads them. Raises ConfigError."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        wrong = getattr(error, "override", None) or " ".join(overrides)
        raise ConfigError(
            f"{wrong}: {_first_line(error)}; a text with other signs than letters, digits and -_./ goes in quotes of "
            "its own, 'key=\"text\"'"
        ) from error
    for override in parsed:
        if override.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP):
            raise ConfigError(f"{override.input_line}: a sweep names its values, as a,b,c or range(0,3)")
    return parsed


def _check_choices(overrides: Sequence[Override], files: ConfigFiles) -> None:
    """Raise ConfigError where an override chooses a file that a group does not have."""
    groups = files.groups
    for group, choice in chosen_files(overrides):
        if group not in groups or group.startswith("hydra") or choice in groups[group]:  # Hydra has choices of its own
            continue
        elsewhere = [f"{other}={files.named(other, choice)}" for other, held in groups.items() if choice in held]
        alike = nearest(choice, groups[group])
        close = elsewhere[0] if len(elsewhere) == 1 else alike and files.named(group, alike)
        there = ", ".join(files.named(group, name) for name in groups[group])
        hint = f"did you mean {close}?" if close else f"choose one of {there}"
        raise ConfigError(f"{group}={choice}: {files.shown(group)} has no such file; {hint}")


def chosen_files(overrides: Sequence[Override]) -> list[tuple[str, str]]:
    """Each group of the command line with each file that is chosen of it."""
    choices: list[tuple[str, str]] = []
    for override in overrides:
        if not override.is_delete() and "." not in override.key_or_group:
            values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
            items = [item for value in values for item in (value if isinstance(value, list) else [value])]
            choices += [(override.key_or_group, str(item)) for item in items]
    return choices


def _check_keys(config_name: str, overrides: Sequence[Override], files: ConfigFiles) -> None:
    """Raise ConfigError where an override sets a key that the files chosen do not lead to, with ``+`` or without."""
    groups, values = files.groups, _of_values(overrides, files)
    if not values:
        return
    composing = [o.input_line or "" for o in overrides if o.key_or_group in groups or o.key_or_group == SEARCH_PATH]
    config = _composed_of(config_name, tuple(composing))
    added = {o.key_or_group.removesuffix("._target_") for o in values if o.key_or_group.endswith("._target_")}
    added |= {o.key_or_group for o in values if isinstance(value := o.value(), dict) and "_target_" in value}
    for override in values:
        key = override.key_or_group
        if "/" in key or override.package is not None:
            close = nearest(key, groups)
            raise ConfigError(f"unknown group {key}" + (f": did you mean {close}?" if close else ""))
        check_override(key, config, added, groups)


def _of_values(overrides: Sequence[Override], files: ConfigFiles) -> list[Override]:
    """The overrides that choose no file and are not about Hydra itself."""
    return [o for o in overrides if o.key_or_group not in files.groups and o.key_or_group.split(".")[0] != "hydra"]


def _check_signals(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Raise ConfigError where a signal is on and the weighting of the tokens reads none: it would change nothing."""
    if "attribution" not in config or "signals" in config["weighting"]:
        return
    signals = config["attribution"].get("signals") or {}
    if on := [name for name, signal in signals.items() if signal is not None]:
        raise ConfigError(
            f"attribution={choices['attribution']} has signals ({', '.join(on)}) that weighting={choices['weighting']} "
            "does not read: choose weighting=key_tokens, or attribution=none"
        )


@cache
def _composed_of(config_name: str, chosen: tuple[str, ...]) -> Mapping[str, Any]:
    """What the files chosen give, before any value of the command line: its keys are those that there are."""
    return {key: value for key, value in _plain(_compose(config_name, chosen)).items() if key != "hydra"}


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra for composing; that of a job which runs is put aside meanwhile."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="check"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        return hydra_compose(config_name, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        cause = f": {_first_line(error.__cause__)}" if error.__cause__ else ""
        raise ConfigError(" ".join(str(error).split()) + cause) from error


def _missing(node: Mapping[str, Any], at: str = "") -> str | None:
    """The first key outside Hydra's own node that still waits for its value."""
    for key, value in node.items():
        path = f"{at}.{key}" if at else key
        if path == "hydra":
            continue
        if value == "???":
            return path
        if isinstance(value, Mapping) and (found := _missing(value, path)):
            return found
    return None


def _plain(config: DictConfig, resolve: bool = False) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=resolve))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
