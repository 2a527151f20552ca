"""From a command line to the checked configs of its jobs, before any heavy import.

Each job is composed and checked before the first one starts, so that a mistyped key anywhere stops before any work,
with one sentence that names the key and the nearest right one.
"""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from itertools import product
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser  # hydra.main's own parser, which nothing public hands out
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ktr.config.benchmark_input import check_benchmark
from ktr.config.endings import WRONG, Stopped, ending_of, stopped_by_signals
from ktr.config.fast_composition import compose_faster
from ktr.config.free_text import quoted
from ktr.config.keys import check_nodes, check_override, nearest, target_signature
from ktr.config.own_input import check_own_input
from ktr.config.refused import check_options
from ktr.config.requirements import require_extras, require_paths
from ktr.config.resumption import check_resumption
from ktr.config.run_names import register_resolvers
from ktr.config.schemas import register_schemas
from ktr.config.search_path import (
    CONF,
    SEARCH_PATH,
    ConfigFiles,
    SearchFolders,
    config_files,
    search_folders,
    with_search_path,
)
from ktr.config.table_rows import check_row, check_row_is_whole, row_overrides
from ktr.errors import ConfigError, KtrError

register_schemas()
register_resolvers()
compose_faster()


def launch(
    task: Callable[[], Any],
    config_name: str,
    sweep: Callable[[Sequence[DictConfig]], AbstractContextManager[Any]] | None = None,
) -> None:
    """Check the command line, then run Hydra's ``task``. Errors of our own are one sentence and an exit code.

    Exit code 2: what is given cannot be used, or a disk is full or closed. Exit code 1: a run failed.
    Above 128: a signal ended it. Where the command line is that of a sweep, the task runs in the context that ``sweep``
    makes of its jobs, if one is given.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra's short tracebacks hide where a job failed
    logging.raiseExceptions = False  # a full disk is told once, not by each line that could not be logged
    jobs: list[DictConfig] = []
    try:
        with stopped_by_signals():
            sys.argv[1:], options, jobs, swept = checked(config_name, sys.argv[1:])
            if swept and options.cfg:  # Hydra prints the config of a single job, and refuses a sweep
                sys.stdout.write(_configs(jobs, options))
                return
            with sweep(jobs) if sweep and swept else nullcontext():
                task()
    except (Exception, Stopped) as error:  # what is no fault of the program is told in one sentence; the rest goes on
        if (ending := ending_of(error, jobs[0] if jobs else None)) is None:
            raise
        logging.getLogger(__name__).debug("the run failed", exc_info=True)
        sys.exit(_report(config_name, *ending))


def checked(config_name: str, arguments: Sequence[str]) -> tuple[list[str], Namespace, list[DictConfig], bool]:
    """The arguments made whole, what Hydra reads in them, the jobs, and whether they are a sweep.

    Ends the process with one sentence where the command line is wrong.
    """
    try:
        whole, options = _given(config_name, arguments)
        return whole, options, *_checked(config_name, options)
    except KtrError as error:
        sys.exit(_report(config_name, WRONG, f"{type(error).__name__}: {error}"))


def check_command_line(config_name: str, arguments: Sequence[str]) -> list[DictConfig]:
    """The configs of all jobs that a command line starts, checked; [] where it asks only for help.

    Raises ConfigError on keys, choices and values that are wrong and on two jobs of one name; MissingModel,
    MissingData and MissingExtra where what a job needs is not there (not with ``--cfg``, which only prints).
    """
    return _checked(config_name, _given(config_name, arguments)[1])[0]


def _given(config_name: str, arguments: Sequence[str]) -> tuple[list[str], Namespace]:
    """The command line with its search paths made whole, and what Hydra reads in it."""
    options = get_args_parser().parse_args(list(arguments))
    if options.config_path is not None:
        raise ConfigError(
            f"--config-path={options.config_path} would take the place of ktr's own conf/; give --config-dir="
            f"{options.config_path}, which is read beside it"
        )
    name = options.config_name or config_name
    whole = with_search_path(arguments, options.overrides, options.config_dir, name)
    return whole, get_args_parser().parse_args(whole)


def _checked(config_name: str, options: Namespace) -> tuple[list[DictConfig], bool]:
    """The jobs, and whether they are run as a sweep."""
    folders = search_folders(options.overrides)
    config_files(folders)
    name = options.config_name or config_name
    is_ours = (CONF / f"{name.removesuffix('.yaml')}.yaml").exists()
    SearchFolders.folders = () if is_ours and not options.help else folders[1:]
    if options.help or options.hydra_help or options.shell_completion or options.info:
        return [], False
    overrides, swept = _jobs(name, list(options.overrides), options.multirun)
    jobs = [compose(name, job) for job in overrides]
    _check_folders(jobs)
    if options.cfg:
        return jobs, swept
    for job in jobs:
        check_benchmark(job)
        if "model" not in job or job.get("dry_run"):  # nothing is asked
            continue
        check_row(job)
        if "trainer" in job:
            check_resumption(job)
            benchmark_nodes(job)
        check_own_input(job)
        require_paths(job)
        require_extras(job)
    return jobs, swept


def _configs(jobs: Sequence[DictConfig], options: Namespace) -> str:
    """What ``--cfg job`` prints of a sweep: a YAML document for each job, ``--package`` of it, ``--resolve``d."""
    if options.cfg != "job":
        raise ConfigError(f"--cfg {options.cfg}: of a sweep only --cfg job can be printed")
    documents = []
    for job in jobs:
        part = OmegaConf.select(job, options.package) if options.package else job
        if part is None:
            raise ConfigError(f"--package {options.package}: {job.name} has no such key")
        text = OmegaConf.to_yaml(part, resolve=options.resolve) if OmegaConf.is_config(part) else f"{part}\n"
        documents.append(f"# {job.paths.folder}\n{text}")
    return "---\n".join(documents)


def compose(config_name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The checked config of one job, its name and folder fixed. Raises ConfigError."""
    parsed, files = _parse(overrides), config_files(search_folders(overrides))
    with _hydra():
        _check_choices(parsed, files)
        config = _composed(config_name, overrides, parsed, files)
    choices = config.hydra.runtime.choices
    if missing := _missing(_plain(config)):
        raise ConfigError(f"{missing} has no value: give {missing}=… on the command line")
    try:
        with open_dict(config):
            if "paths" in config:
                config.name = _folder_name(config.name)
                config.paths.folder = config.paths.folder
            if "labels" in config:
                config.labels = OmegaConf.to_container(config.labels, resolve=True)
            del config["hydra"]
        resolved = _plain(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_first_line(error)}") from error
    chosen = [*_chosen(parsed), *((str(group).partition("@")[0], str(choice)) for group, choice in choices.items())]
    check_nodes(_plain(config), resolved, partial(files.origin, chosen=chosen))
    check_options(resolved)
    for part in ("train", "validation") if "data" in config else ():
        own = None if OmegaConf.is_interpolation(config.data, part) else resolved["data"].get(part)
        if isinstance(own, Mapping) and isinstance(own.get("format"), str):
            target_signature(f"data.{part}.format", own["format"])
    _check_signals(resolved, choices)
    return config


def benchmark_nodes(job: DictConfig, at: str = "validation.benchmarks") -> dict[str, DictConfig]:
    """The nodes of the benchmarks of ``at`` by name.

    Raises ConfigError where there is no such benchmark or option, and MissingData where its files are not there.
    """
    folders = [f"paths.{key}={quoted(str(value))}" for key, value in job.paths.items() if key in ("data", "cache")]
    nodes = {}
    for entry in cast(list[Any], OmegaConf.to_container(OmegaConf.select(job, at), resolve=True)):
        options: dict[str, Any] = {"name": entry} if isinstance(entry, str) else dict(entry)
        if not isinstance(name := options.pop("name", None), str):
            raise ConfigError(f"{at}={entry}: an entry is a benchmark's name, or {{name: …, keys}}")
        texts = {key: quoted(value) if isinstance(value, str) else value for key, value in options.items()}
        given = [f"benchmark.{key}={value}" for key, value in texts.items()]
        config = compose("dry_run", [f"benchmark={name}", *folders, *given])
        check_benchmark(config)
        nodes[name] = config.benchmark
    return nodes


def _composed(config_name: str, overrides: Sequence[str], parsed: Sequence[Override], files: ConfigFiles) -> DictConfig:
    """What Hydra makes of the overrides. Raises ConfigError, about a key if one is wrong."""
    values = _of_values(parsed, files)
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


def _jobs(config_name: str, overrides: list[str], multirun: bool) -> tuple[list[list[str]], bool]:
    """Overrides of each job: one, or the product of the sweep of the command line and of the experiment's own.

    And whether it is a sweep.
    """
    parsed = _parse(overrides)
    if not multirun and not any(o.key_or_group == "experiment" for o in parsed):
        return [overrides], False
    files = config_files(search_folders(overrides))
    with _hydra():
        _check_choices(parsed, files)
        fixed = [override for override in parsed if not override.is_sweep_override()]
        composed = _composed(config_name, [override.input_line or "" for override in fixed], fixed, files)
    table = composed.get("table")
    if not multirun and str(composed.hydra.mode) != "RunMode.MULTIRUN":
        if table is not None:
            check_row_is_whole(table.rows, overrides)
        return [overrides], False
    of_the_experiment = [f"{key}={value}" for key, value in (composed.hydra.sweeper.params or {}).items()]
    batch = _product(_parse([*of_the_experiment, *overrides]))
    return [row_overrides(table.rows, job) for job in batch] if table is not None else batch, True


def _product(overrides: Sequence[Override]) -> list[list[str]]:
    """The jobs of a sweep, in the order of Hydra's own sweeper; a key given twice has its last values."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key, sweeps = override.get_key_element(), override.is_sweep_override()
        values = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
        choices[key] = [f"{key}={value}" for value in values]
    return [list(job) for job in product(*choices.values())]


def _check_choices(overrides: Sequence[Override], files: ConfigFiles) -> None:
    """Raise ConfigError where an override chooses a file that a group does not have."""
    groups = files.groups
    for group, choice in _chosen(overrides):
        if group not in groups or group.startswith("hydra") or choice in groups[group]:  # Hydra has choices of its own
            continue
        elsewhere = [f"{other}={files.named(other, choice)}" for other, held in groups.items() if choice in held]
        alike = nearest(choice, groups[group])
        close = elsewhere[0] if len(elsewhere) == 1 else alike and files.named(group, alike)
        there = ", ".join(files.named(group, name) for name in groups[group])
        hint = f"did you mean {close}?" if close else f"choose one of {there}"
        raise ConfigError(f"{group}={choice}: {files.shown(group)} has no such file; {hint}")


def _chosen(overrides: Sequence[Override]) -> list[tuple[str, str]]:
    """Each group of the command line with each file that is chosen of it."""
    chosen: list[tuple[str, str]] = []
    for override in overrides:
        if not override.is_delete() and "." not in override.key_or_group:
            values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
            items = [item for value in values for item in (value if isinstance(value, list) else [value])]
            chosen += [(override.key_or_group, str(item)) for item in items]
    return chosen


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
    return _plain(_compose(config_name, chosen))


def _check_folders(jobs: Sequence[DictConfig]) -> None:
    folders = [job.paths.folder for job in jobs if "paths" in job and not job.get("dry_run")]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(f"{folders.count(folder)} jobs would share the folder {folder}: give each its own name=…")


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


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"{' '.join(overrides)}: {_first_line(error)}") from error
    for override in parsed:
        if override.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP):
            raise ConfigError(f"{override.input_line}: a sweep names its values, as a,b,c or range(0,3)")
    return parsed


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


def _report(program: str, code: int, sentence: str) -> int:
    sys.stderr.write(f"ktr.{program}: {sentence}\n")
    return code
