"""How a program ends before its end: which exit code, and the one sentence that says why and what helps."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from ktr.errors import ConfigError, KtrError, LostRank, MissingModel, StorageError

WRONG, FAILED = 2, 1  # exit codes: what is given can't be used, a command line or a disk; the run itself failed
_ELSEWHERE = "choose a folder that can be written"
_EXCHANGE = re.compile(r"\bgloo/|\bNCCL\b|Connection (closed|reset) by peer")
_OTHER_TRAINER = "; change trainer.*, or choose trainer=cpu"
_REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close programs that hold many files open",
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: f"get the right to it, or {_ELSEWHERE}",
    errno.EPERM: f"get the right to it, or {_ELSEWHERE}",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount that disk again",
    errno.ENODEV: "mount that disk again",
    errno.ENOTDIR: "a file stands where a folder belongs: move it",
    errno.EISDIR: "a folder stands where a file belongs: move it",
    errno.EEXIST: "a file stands where a folder belongs: move it",
    errno.ENOENT: f"it is gone, or nothing can be made there: {_ELSEWHERE}",
    errno.ENAMETOOLONG: "give a shorter name=… or folder",
    errno.ELOOP: "mend that symbolic link",
}


class Stopped(BaseException):
    """A signal that asks the program to end. No ``Exception``, so that nothing on the way takes it for a fault."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM raises ``Stopped``, so that what is open is closed; a second one kills."""

    def stop(number: int, frame: Any) -> NoReturn:
        for other in previous:
            signal.signal(other, signal.SIG_DFL)
        raise Stopped(number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def write_lines(lines: Callable[[], Iterable[object]]) -> int:
    """What a program without a run of its own says, a line each, as it is found; its exit code.

    An error that is no fault of the program is one sentence on stderr.
    """
    try:
        for line in lines():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except KtrError as error:
        sys.stderr.write(f"{error}\n")
        return WRONG
    except OSError as error:
        if (ending := ending_of(error, None)) is None:
            raise
        sys.stderr.write(f"{ending[1]}\n")
        return ending[0]
    return 0


def ending_of(error: BaseException, job: DictConfig | None) -> tuple[int, str] | None:
    """Exit code and sentence of what ended a program; None of a fault of the program, which has a traceback.

    ``job`` is what ran, or the first job of a sweep.
    """
    if isinstance(error, Stopped):
        name = signal.Signals(error.number).name
        return 128 + error.number, f"{name}: ended; start the same command again to go on from the last checkpoint"
    told = _own(error, job) or _storage_error(error, job) or _lost_rank(error, job)
    if told is None:
        return None
    code = WRONG if isinstance(told, ConfigError | StorageError | MissingModel) else FAILED
    return code, f"{type(told).__name__}: {told}"


def _own(error: BaseException, job: DictConfig | None) -> KtrError | None:
    """The error of ours that an error is, or stands for."""
    if isinstance(error, KtrError):
        return error
    if _is_of_lightning(error):
        return ConfigError(f"trainer: {_first_line(error)}{_OTHER_TRAINER}")
    cause = error.__cause__
    if not isinstance(error, InstantiationException) or cause is None:
        return None
    key = _written(str(error).rpartition("full_key: ")[2], job)  # how Hydra hands on what a constructor raises
    if isinstance(cause, KtrError):
        return cause
    torn = isinstance(cause, OSError | JSONDecodeError) or type(cause).__name__ in ("SafetensorError", "Exception")
    if key in ("model", "encoder") and torn and _number(cause) is None:  # its encoder reads the same folder
        path = "" if job is None else f"={job.model.path}"
        what = f"{type(cause).__name__}: {_first_line(cause)}"
        return MissingModel(f"model.path{path}: cannot be loaded ({what}); put its files there again")
    if _is_of_lightning(cause):
        return _own(cause, job)
    if isinstance(cause, ImportError):  # a target that is not there, or whose module fails
        return ConfigError(f"{key}: {_first_line(_root(cause))}; correct its _target_, or that module")
    is_refused_call = isinstance(cause, TypeError) and _raised_by_hydra(cause)  # what it is called with does not fit
    return ConfigError(f"{key}: {_first_line(cause)}") if isinstance(cause, ValueError) or is_refused_call else None


def _written(key: str, job: DictConfig | None) -> str:
    """The key where the config has it written out: ``algorithm.weighting`` may be ``${weighting}``."""
    root = node = {} if job is None else OmegaConf.to_container(job, resolve=False)
    place: list[str] = []
    for part in key.split("."):
        place.append(part)
        node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, str) and (found := re.fullmatch(r"\$\{([\w.]+)\}", node)):
            place, node = found[1].split("."), root
            for step in place:
                node = node.get(step) if isinstance(node, dict) else None
    return ".".join(place)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _raised_by_hydra(error: BaseException) -> bool:
    """Whether the call itself failed, arguments or an abstract class, and not a line of what was called."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is not None and innermost.tb_frame.f_globals.get("__name__", "").startswith("hydra.")


def _is_of_lightning(error: BaseException) -> bool:
    """Whether Lightning refuses what it was given; a trainer is imported only once the command line is right."""
    return type(error).__name__ == "MisconfigurationException"


def _storage_error(error: BaseException, job: DictConfig | None) -> StorageError | None:
    """The fault of a disk behind an error, also where a library hid it behind one of its own."""
    for link in _chain(error):
        if (number := _number(link)) in _REMEDIES:
            name = getattr(link, "filename2", None) or getattr(link, "filename", None)  # of a copy, where to
            where = f"a file of {job.paths.run_dir if job else os.getcwd()}" if name is None else str(name)
            remedy = _REMEDIES[number] + _key_of(where, job)
            return StorageError(f"{where}: {os.strerror(number).lower()}; {remedy}, then {_again(job)}")
    return None


def _lost_rank(error: BaseException, job: DictConfig | None) -> LostRank | None:
    """What an exchange between ranks raises, of any backend, where one of them is gone or never came."""
    for link in _chain(error):
        if type(link).__name__.startswith("Dist") or _EXCHANGE.search(str(link)):
            given = OmegaConf.create() if job is None else job
            limits = [OmegaConf.select(given, f"trainer.strategy.{name}") for name in ("start_limit_s", "time_limit_s")]
            return LostRank(
                "the other ranks cannot be reached, did not come within trainer.strategy.start_limit_s="
                f"{limits[0]}, or kept this one waiting for trainer.strategy.time_limit_s={limits[1]} "
                f"({_first_line(link)}): see what they print, and the link between the nodes; then start the same "
                "command again, also on fewer ranks, to go on from the last checkpoint"
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those behind it."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def _again(job: DictConfig | None) -> str:
    if job is not None and Path(job.paths.run_dir, "summary.json").exists():  # only its report is not there yet
        return f"python -m ktr.report {job.paths.run_dir}"
    return "start the same command again"


def _number(error: BaseException) -> int | None:
    """The system's number of an error; libraries in Rust have it in their text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return None if found is None else int(found[1])


def _key_of(where: str, job: DictConfig | None) -> str:
    if job is None:
        return ""
    for key in ("cache", "runs"):
        if Path(where).absolute().is_relative_to(Path(str(job.paths[key])).expanduser().absolute()):
            return f" (paths.{key})"
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
