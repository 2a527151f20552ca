"""From a command line to the checked configs of its jobs, before any heavy import.

Each job is composed and checked before the first one starts, so that a mistyped key anywhere stops before any work,
with one sentence that names the key and the nearest right one.
"""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any

from hydra._internal.utils import get_args_parser  # hydra.main's own parser, which nothing public hands out
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ktr.config.benchmark_input import check_benchmark
from ktr.config.composing import benchmark_nodes, chosen_files, compose, compose_unchecked, parse
from ktr.config.endings import WRONG, Stopped, ending_of, stopped_by_signals
from ktr.config.own_input import check_own_input
from ktr.config.requirements import require_extras, require_paths
from ktr.config.resumption import check_resumption
from ktr.config.search_path import (
    CONF,
    SearchFolders,
    config_files,
    search_folders,
    with_search_path,
)
from ktr.config.table_rows import check_row, check_row_is_whole, check_rows, row_overrides
from ktr.errors import ConfigError, KtrError


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
        whole, options = given(config_name, arguments)
        return whole, options, *_checked(config_name, options)
    except KtrError as error:
        sys.exit(_report(config_name, WRONG, f"{type(error).__name__}: {error}"))


def check_command_line(config_name: str, arguments: Sequence[str]) -> list[DictConfig]:
    """The configs of all jobs that a command line starts, checked; [] where it asks only for help.

    Raises ConfigError on keys, choices and values that are wrong and on two jobs of one name; MissingModel,
    MissingData and MissingExtra where what a job needs is not there (not with ``--cfg``, which only prints).
    """
    return _checked(config_name, given(config_name, arguments)[1])[0]


def given(config_name: str, arguments: Sequence[str]) -> tuple[list[str], Namespace]:
    """The command line with its search paths made whole, and what Hydra reads in it. Raises ConfigError."""
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
            benchmark_nodes(job, overrides=options.overrides)
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


def _jobs(config_name: str, overrides: list[str], multirun: bool) -> tuple[list[list[str]], bool]:
    """Overrides of each job: one, or the product of the sweep of the command line and of the experiment's own.

    And whether it is a sweep.
    """
    parsed = parse(overrides)
    if not multirun and not any(o.key_or_group == "experiment" for o in parsed):
        return [overrides], False
    _check_tables_alone(config_name, parsed)
    composed = compose_unchecked(config_name, [override for override in parsed if not override.is_sweep_override()])
    if (table := composed.get("table")) is not None:
        check_rows(table)
    if not multirun and str(composed.hydra.mode) != "RunMode.MULTIRUN":
        if table is not None:
            check_row_is_whole(table.rows, overrides)
        return [overrides], False
    of_the_experiment = [f"{key}={value}" for key, value in (composed.hydra.sweeper.params or {}).items()]
    batch = _product(parse([*of_the_experiment, *overrides]))
    return [row_overrides(table.rows, job) for job in batch] if table is not None else batch, True


def _check_tables_alone(config_name: str, parsed: Sequence[Override]) -> None:
    """Raise ConfigError where a table is one of several in a list or a sweep: a table is a sweep of its own rows."""
    of_group = [override for override in parsed if override.key_or_group == "experiment"]
    names = dict.fromkeys(choice for _, choice in chosen_files(of_group))
    tables = [name for name in names if len(names) > 1 and _is_table(config_name, name)]
    if len(tables) > 1 or (tables and any(override.is_sweep_override() for override in of_group)):
        raise ConfigError(f"experiment: {' and '.join(tables)}: a table is a sweep of its own; run it by itself")


def _is_table(config_name: str, experiment: str) -> bool:
    try:
        return compose_unchecked(config_name, parse([f"+experiment={experiment}"])).get("table") is not None
    except ConfigError:  # what it lacks alone, another in the list may have
        return False


def _product(overrides: Sequence[Override]) -> list[list[str]]:
    """The jobs of a sweep, in the order of Hydra's own sweeper; a key given twice has its last values."""
    choices: dict[str, list[str]] = {}
    for override in overrides:
        key, sweeps = override.get_key_element(), override.is_sweep_override()
        values = override.sweep_string_iterator() if sweeps else [override.get_value_element_as_str()]
        choices[key] = [f"{key}={value}" for value in values]
    return [list(job) for job in product(*choices.values())]


def _check_folders(jobs: Sequence[DictConfig]) -> None:
    folders = [job.paths.folder for job in jobs if "paths" in job and not job.get("dry_run")]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ConfigError(f"{folders.count(folder)} jobs would share the folder {folder}: give each its own name=…")


def _report(program: str, code: int, sentence: str) -> int:
    sys.stderr.write(f"ktr.{program}: {sentence}\n")
    return code
